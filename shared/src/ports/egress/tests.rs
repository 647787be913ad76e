//! The guard against a server on the loopback, and against names whose look-up the test decides.

use std::sync::Mutex;

use wiremock::matchers::{body_string, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

fn config(allow: &str) -> EgressConfig {
    EgressConfig { allow: Cidr::parse_list(allow).unwrap(), user_agent: "Chatia/test".into() }
}

fn strict() -> Egress {
    Egress::new(config(""))
}

fn local() -> Egress {
    Egress::new(config("127.0.0.0/8,::1"))
}

/// A guard whose look-ups give these addresses in turn, then the last ones for ever.
fn scripted(allow: &str, answers: &[&[&str]]) -> Egress {
    let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
    let mut answers: Vec<Vec<IpAddr>> = answers.iter().map(parse).collect();
    answers.reverse();
    let answers = Mutex::new(answers);
    let lookup: Lookup = Arc::new(move |_| {
        let mut answers = answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() };
        Box::pin(std::future::ready(Ok(answer)))
    });
    Egress::with_lookup(config(allow), lookup)
}

fn get(url: impl Into<String>) -> Outbound {
    Outbound {
        method: Method::GET,
        url: url.into(),
        headers: vec![],
        body: vec![],
        timeout: Duration::from_secs(5),
        max_response: 1000,
    }
}

fn refused(error: &SendError) -> bool {
    matches!(error, SendError::Refused(_))
}

#[test]
fn every_way_to_write_a_forbidden_address_is_refused() {
    let hosts = "
        127.0.0.1 127.1 127.0.1 127.0.0.1. 0x7f.1 0x7f000001 0X7F.0.0.0X1 0177.0.0.1 017700000001 2130706433
        %31%32%37.0.0.1 １２７.0.0.1 127。0。0。1 0 0.0.0.0 10.1 0xa.1 169.254.169.254 0xa9fea9fe 2852039166 [::]
        [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [64:ff9b::7f00:1] [fe80::1]
        [fd00:ec2::254] [2002:7f00:1::] localhost LOCALHOST localhost. api.localhost ⓛocalhost
    ";
    for host in hosts.split_whitespace() {
        for url in [format!("https://{host}/x"), format!("https://{host}:8443/x"), format!("http://{host}/")] {
            let error = strict().check_url(&url).map(|url| panic!("{url} passed")).unwrap_err();
            assert_eq!(error.code(), Code::EgressRefused, "{url}");
        }
    }
}

#[test]
fn a_url_must_be_plain_https() {
    let long = format!("https://example.com/{}", "x".repeat(MAX_URL));
    let urls = "
        example.com /path https:// https:/// http://example.com/ http://8.8.8.8/ ftp://example.com/
        file:///etc/passwd gopher://example.com/ data:text/plain,x wss://example.com/ javascript:1
        https://user@example.com/ https://user:pass@example.com/ https://:pass@example.com/
        https://example.com@127.0.0.1/ https://[fe80::1%25eth0]/ https://[::1/ https://256.256.256.256/
        https://1.2.3.4.5/ https://example.com:99999/
    ";
    for url in urls.split_whitespace().chain(["", "https://exa mple.com/", &long]) {
        assert_eq!(strict().check_url(url).unwrap_err().code(), Code::EgressRefused, "{url}");
    }
    let urls = "
        https://example.com https://example.com:8443/a?b=c#d HTTPS://EXAMPLE.COM/ https://8.8.8.8/
        https://[2606:4700:4700::1111]/ https://bücher.example/ https://notlocalhost/
        https://127.0.0.1.example/
    ";
    for url in urls.split_whitespace() {
        assert!(strict().check_url(url).is_ok(), "{url}");
    }
}

#[test]
fn a_backslash_does_not_hide_the_host() {
    let url = strict().check_url(r"https://example.com\@127.0.0.1/").unwrap();
    assert_eq!(url.host_str(), Some("example.com"));
}

#[test]
fn http_is_only_for_allowed_networks() {
    assert!(local().check_url("http://127.0.0.1:9/").is_ok());
    assert!(local().check_url("http://[::ffff:127.0.0.1]:9/").is_ok());
    assert!(local().check_url("http://localhost:9/").is_ok());
    assert!(local().check_url("https://127.0.0.1/").is_ok());
    assert!(local().check_url("http://8.8.8.8/").is_err());
    assert!(local().check_url("https://10.0.0.1/").is_err());
}

#[tokio::test]
async fn http_to_a_public_name_is_refused_when_dialled() {
    let egress = scripted("127.0.0.0/8", &[&["8.8.8.8"]]);
    let error = egress.send(get("http://public.example/")).await.unwrap_err();
    assert!(refused(&error) && error.to_string().contains("Use https"), "{error}");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused() {
    // The static check knows the name, so the client is asked directly too.
    assert!(refused(&strict().send(get("https://localhost/")).await.unwrap_err()));
    let url = Url::parse("https://localhost/").unwrap();
    let error = strict().guarded_client(&url).unwrap().get(url).send().await.unwrap_err();
    assert!(refused(&reason(&error)), "{error:?}");

    for address in ["10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"] {
        let error = scripted("", &[&[address]]).send(get("https://inside.example/")).await.unwrap_err();
        assert!(refused(&error), "{address}: {error}");
        assert!(!error.to_string().contains(address), "{error}");
    }
}

#[tokio::test]
async fn one_forbidden_address_condemns_the_name() {
    let error = scripted("", &[&["8.8.8.8", "10.0.0.1"]]).send(get("https://mixed.example/")).await.unwrap_err();
    assert!(refused(&error), "{error}");
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_caught_when_dialled() {
    let server = MockServer::start().await;
    let once = ResponseTemplate::new(200).insert_header("connection", "close");
    Mock::given(method("GET")).respond_with(once).mount(&server).await;
    let egress = scripted("127.0.0.0/8", &[&["127.0.0.1"], &["10.0.0.1"]]);
    let url = format!("http://rebind.example:{}/", server.address().port());
    assert_eq!(egress.send(get(&url)).await.unwrap().status, 200);
    assert!(refused(&egress.send(get(&url)).await.unwrap_err()));
}

#[tokio::test]
async fn a_name_without_address_is_a_dns_error() {
    let error = scripted("", &[&[]]).send(get("https://nowhere.example/")).await.unwrap_err();
    assert_eq!(error, SendError::Dns("the host name has no address".into()));
}

#[tokio::test]
async fn an_allowed_network_is_called() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/hook"))
        .and(header("user-agent", "Chatia/test"))
        .and(header("x-one", "1"))
        .and(body_string("ping"))
        .respond_with(ResponseTemplate::new(201).insert_header("X-Answer", "Yes").set_body_string("pong"))
        .mount(&server)
        .await;
    let mut call = get(format!("{}/hook", server.uri()));
    call.method = Method::POST;
    call.headers = vec![("X-One".into(), "1".into())];
    call.body = b"ping".to_vec();
    let answer = local().send(call).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), answer.truncated), (201, b"pong".as_slice(), false));
    assert_eq!(answer.header("x-answer"), Some("Yes"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = MockServer::start().await;
    let inside = ResponseTemplate::new(302).insert_header("location", "http://169.254.169.254/");
    Mock::given(path("/")).respond_with(inside).expect(1).mount(&server).await;
    // Spawned, which shows that handlers can await it.
    let call = get(server.uri());
    let answer = tokio::spawn(async move { local().send(call).await }).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.header("location")), (302, Some("http://169.254.169.254/")));
}

#[tokio::test]
async fn a_long_body_is_cut() {
    let server = MockServer::start().await;
    let long = ResponseTemplate::new(200).set_body_bytes(vec![b'x'; 300_000]);
    Mock::given(path("/long")).respond_with(long).mount(&server).await;
    let exact = ResponseTemplate::new(200).set_body_bytes(vec![b'x'; 1000]);
    Mock::given(path("/exact")).respond_with(exact).mount(&server).await;
    let answer = local().send(get(format!("{}/long", server.uri()))).await.unwrap();
    assert_eq!((answer.body.len(), answer.truncated), (1000, true));
    let answer = local().send(get(format!("{}/exact", server.uri()))).await.unwrap();
    assert_eq!((answer.body.len(), answer.truncated), (1000, false));
}

#[tokio::test]
async fn a_silent_server_ends_in_a_time_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for scheme in ["http", "https"] {
        let mut call = get(format!("{scheme}://{}/", silent.local_addr().unwrap()));
        call.timeout = Duration::from_millis(50);
        assert_eq!(local().send(call).await.unwrap_err(), SendError::Timeout);
    }
}

#[tokio::test]
async fn an_answer_whose_body_stops_half_way_is_told_with_its_status() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for hangs in [false, true] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut call = get(format!("http://{}/", listener.local_addr().unwrap()));
        call.timeout = Duration::from_millis(300);
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 2_048]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 410 Gone\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
            if hangs {
                std::future::pending::<()>().await;
            }
        });
        let answer = local().send(call).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice(), answer.cut.is_some()), (410, b"half".as_slice(), true));
        server.abort();
    }
}

#[tokio::test]
async fn a_silent_resolver_ends_in_a_time_out() {
    let egress = Egress::with_lookup(config(""), Arc::new(|_| Box::pin(std::future::pending())));
    let mut call = get("https://slow.example/");
    call.timeout = Duration::from_millis(50);
    assert_eq!(egress.send(call).await.unwrap_err(), SendError::Timeout);
}

#[tokio::test]
async fn a_failed_connection_is_told_without_its_address() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = local().send(get(format!("http://{closed}/"))).await.unwrap_err();
    assert_eq!(error, SendError::Connect("the connection was refused".into()));

    let plain = MockServer::start().await;
    let error = local().send(get(format!("https://{}/", plain.address()))).await.unwrap_err();
    assert_eq!(error, SendError::Connect("the TLS handshake failed".into()));
}

#[tokio::test]
async fn headers_cannot_break_out_or_take_over_the_connection() {
    let mut bad = vec![("x\r\ny", "1"), ("x", "1\r\ny: 2"), ("", "1"), ("Host", "inside")];
    bad.extend([("Transfer-Encoding", "chunked"), ("Content-Length", "0")]);
    for (name, value) in bad {
        let mut call = get("https://8.8.8.8/");
        call.headers = vec![(name.into(), value.into())];
        assert!(refused(&strict().send(call).await.unwrap_err()), "{name}");
    }
    let mut call = get("https://8.8.8.8/");
    call.method = Method::CONNECT;
    assert!(refused(&strict().send(call).await.unwrap_err()));
}

#[tokio::test]
async fn the_https_client_does_not_speak_http() {
    let server = MockServer::start().await;
    let client = local().guarded_client(&Url::parse("https://example.com/").unwrap()).unwrap();
    assert!(client.get(server.uri()).send().await.is_err());
}

#[tokio::test]
async fn the_managed_client_reaches_configured_hosts_without_redirects() {
    let server = MockServer::start().await;
    let redirect = ResponseTemplate::new(302).insert_header("location", "/on");
    Mock::given(path("/")).respond_with(redirect).mount(&server).await;
    assert_eq!(managed_client().unwrap().get(server.uri()).send().await.unwrap().status(), 302);
}
