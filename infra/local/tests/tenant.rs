//! The operator's commands, on a data directory and on a table behind an endpoint.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use local::{Options, Platform};
use serde_json::{Value, json};
use shared::ports::egress::managed_client;
use shared::store;
use shared::table::Update;

const EMAIL: &str = "ana@example.com";

async fn start(data_dir: &Path) -> Platform {
    let data_dir = data_dir.to_owned();
    let options = Options { port: 0, data_dir, ephemeral: false, demo: false, lookup: Arc::new(|_| None) };
    Platform::start(options).await.unwrap()
}

async fn post(url: &str, token: &str, body: Value) -> (u16, Value) {
    let answer = managed_client().unwrap().post(url).bearer_auth(token).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// A platform of its own process, as whoever runs the command has one. Ends with the test at the latest.
struct Running {
    process: Child,
    url: String,
}

impl Running {
    fn start(data_dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatia"));
        command.args(["--port", "0", "--no-demo", "--data-dir"]).arg(data_dir);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| line.unwrap().strip_prefix("ready ").map(str::to_owned)).unwrap();
        Self { process, url }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Somebody with an agent that has answered: the address of its chat.
async fn owner(base: &str, email: &str, name: &str) -> String {
    let who = json!({"email": email, "password": "correct horse", "name": name});
    let (_, registered) = post(&format!("{base}/api/auth/register"), "", who).await;
    let token = registered["access_token"].as_str().unwrap();
    let agent = json!({"name": format!("{name} desk"), "system_prompt": "Q: When? A: At nine.", "publish": true});
    let (_, agent) = post(&format!("{base}/api/developers/agents"), token, agent).await;
    let chat = format!("{base}/api/public/agents/{}/chat", agent["public_slug"].as_str().unwrap());
    assert_eq!(post(&chat, "", json!({"message": format!("{name}, when do you open?")})).await.0, 200);
    chat
}

struct Chatia {
    variables: Vec<(&'static str, String)>,
}

impl Chatia {
    async fn run(&self, words: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatia"));
        command.args(words).envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        let Output { status, stdout, stderr } = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.success(), text(stdout), text(stderr))
    }

    /// What it says when all is well.
    async fn says(&self, words: &[&str]) -> String {
        let (is_well, said, wrong) = self.run(words).await;
        assert!(is_well, "{words:?}: {wrong}");
        said
    }

    /// What it says to somebody whom it refuses.
    async fn refuses(&self, words: &[&str]) -> String {
        let (is_well, said, wrong) = self.run(words).await;
        assert!(!is_well, "{words:?}: {said}");
        wrong
    }
}

/// Everything in the files of a directory.
fn bytes_below(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        bytes.extend(if entry.is_dir() { bytes_below(&entry) } else { std::fs::read(&entry).unwrap() });
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_a_data_directory_is_exported_and_erased() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let (here, chatia) = (data_dir.to_str().unwrap(), Chatia { variables: Vec::new() });
    let nowhere = chatia.refuses(&["tenant", "export", EMAIL, "--data-dir", here]).await;
    assert!(nowhere.contains("no data") && !data_dir.exists(), "{nowhere}");

    let platform = Running::start(&data_dir);
    for (email, name) in [(EMAIL, "Ana"), ("bea@example.com", "Bea")] {
        owner(&platform.url, email, name).await;
    }
    let running = chatia.refuses(&["tenant", "erase", EMAIL, "--data-dir", here]).await;
    assert!(running.contains("A platform runs on") && running.contains("Stop it first"), "{running}");
    drop(platform);

    let export = chatia.says(&["tenant", "export", EMAIL, "--data-dir", here]).await;
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let asked = lines.iter().filter(|line| line["item"]["content"] == "Ana, when do you open?");
    assert_eq!(asked.count(), 1);
    let id = lines[0]["workspace_id"].as_str().unwrap();
    assert!(!export.contains("Bea") && !export.contains("$argon2"), "{export}");

    let told = chatia.says(&["tenant", "erase", EMAIL, "--data-dir", here]).await;
    assert!(told.contains("message 2") && told.contains(&format!("chatia tenant suspend {id}")), "{told}");
    let early = chatia.refuses(&["tenant", "erase", EMAIL, "--confirm", id, "--data-dir", here]).await;
    assert!(early.contains("not suspended"), "{early}");
    chatia.says(&["tenant", "suspend", EMAIL, "--data-dir", here]).await;
    let told = chatia.says(&["tenant", "erase", EMAIL, "--data-dir", here]).await;
    assert!(told.contains(&format!("add: --confirm {id}")), "{told}");
    let wrong = chatia.refuses(&["tenant", "erase", "bea@example.com", "--confirm", id, "--data-dir", here]).await;
    assert!(wrong.contains("is not that tenant"), "{wrong}");
    let erased = chatia.says(&["tenant", "erase", EMAIL, "--confirm", id, "--data-dir", here]).await;
    assert!(erased.contains(&format!("erased {id}")) && erased.contains("message 2"), "{erased}");
    assert!(!erased.contains("Ana") && !erased.contains(EMAIL), "ids and numbers only: {erased}");
    let gone = chatia.refuses(&["tenant", "erase", EMAIL, "--confirm", id, "--data-dir", here]).await;
    assert!(gone.contains("by its id alone"), "{gone}");
    let again = chatia.says(&["tenant", "erase", id, "--confirm", id, "--data-dir", here]).await;
    assert!(again.contains(": 0 items (none), objects: 0, queued messages: 0"), "{again}");

    // Mail that was sent is out: whoever reads it here reads what a mailbox would have.
    std::fs::remove_dir_all(data_dir.join("mail")).unwrap();
    let left = |text: &str| bytes_below(&data_dir).windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(left("Bea, when do you open?") && left("bea@example.com"));
    assert!(!left("Ana, when do you open?") && !left(EMAIL) && !left("Ana"), "deleted bytes are still in the files");

    let platform = start(&data_dir).await;
    let login = |email: &str| json!({"email": email, "password": "correct horse"});
    let address = format!("{}/api/auth/login", platform.url());
    assert_eq!(post(&address, "", login(EMAIL)).await.0, 401);
    assert_eq!(post(&address, "", login("bea@example.com")).await.0, 200);
    assert!(platform.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_a_deployed_table_is_erased_while_others_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let platform = start(&directory.path().join("data")).await;
    owner(&platform.url(), EMAIL, "Ana").await;
    let other_chat = owner(&platform.url(), "bea@example.com", "Bea").await;
    let user = store::user::by_email(&platform.app.table, EMAIL).await.unwrap().unwrap();
    let id = user.default_workspace_id;
    let variables = vec![
        ("AWS_ENDPOINT_URL_DYNAMODB", platform.facts.table_endpoint.clone()),
        ("AWS_REGION", "local".to_owned()),
        ("AWS_ACCESS_KEY_ID", "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
    ];
    let (chatia, name) = (Chatia { variables }, id.text());
    let table = ["--table", local::platform::TABLE];
    let says = async |words: &[&str]| chatia.says(&[words, &table].concat()).await;
    let none = Chatia { variables: vec![("AWS_REGION", String::new())] };
    assert!(none.refuses(&["tenant", "export", EMAIL, "--table", "t"]).await.contains("AWS_REGION"));

    assert!(says(&["tenant", "export", EMAIL]).await.contains("Ana, when do you open?"));
    says(&["tenant", "suspend", &name]).await;
    let confirmed = ["tenant", "erase", EMAIL, "--confirm", &name];
    let closed = says(&confirmed).await;
    assert!(closed.contains(&format!("closed {name}")) && closed.contains("same command again after"), "{closed}");
    assert!(says(&confirmed).await.contains("same command again after"));
    // As if the time had passed.
    let past = platform.app.now() - std::time::Duration::from_secs(600);
    let update = Update::new(store::keys::workspace(id)).set("updated_at", past);
    platform.app.table.update(update, None, shared::kernel::Error::not_found()).await.unwrap();
    let erased = says(&confirmed).await;
    assert!(erased.contains(&format!("erased {name}")) && erased.contains("objects: not looked at"), "{erased}");
    assert!(erased.contains("with --bucket"), "{erased}");
    let login = json!({"email": EMAIL, "password": "correct horse"});
    assert_eq!(post(&format!("{}/api/auth/login", platform.url()), "", login).await.0, 401);
    assert_eq!(post(&other_chat, "", json!({"message": "When?"})).await.0, 200);
    assert!(platform.stop().await);
}

/// The keyring of a data directory, changed by `change`.
fn rotate(data_dir: &Path, change: impl FnOnce(Vec<Value>) -> Vec<Value>) {
    let file = data_dir.join("secrets.json");
    let mut secrets: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let ring: Vec<Value> = serde_json::from_str(secrets["root_keyring"].as_str().unwrap()).unwrap();
    secrets["root_keyring"] = Value::String(serde_json::to_string(&change(ring)).unwrap());
    std::fs::write(&file, secrets.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_key_is_rotated_secrets_are_sealed_anew_and_the_old_key_may_go() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let (here, chatia) = (data_dir.to_str().unwrap(), Chatia { variables: Vec::new() });
    let reseal = ["keys", "reseal", "--data-dir", here];
    let platform = Running::start(&data_dir);
    let who = json!({"email": EMAIL, "password": "correct horse", "name": "Ana"});
    let (_, registered) = post(&format!("{}/api/auth/register", platform.url), "", who).await;
    let token = registered["access_token"].as_str().unwrap();
    let hook = json!({"name": "crm", "url": "https://crm.example.com/in"});
    let (status, _) = post(&format!("{}/api/developers/webhooks", platform.url), token, hook).await;
    assert_eq!(status, 201);
    let agent = json!({"name": "Desk", "system_prompt": "Q: When? A: At nine.", "publish": true});
    let (_, agent) = post(&format!("{}/api/developers/agents", platform.url), token, agent).await;
    let base = format!("{}/api/agents/{}", platform.url, agent["id"]);
    let config = json!({"allowed_hosts": ["crm.example.com"], "headers": {"x-key": "of-ana"}});
    let tool = json!({"name": "http_request", "config": config});
    let (status, attached) = post(&format!("{base}/tools"), token, tool).await;
    assert_eq!(status, 201, "{attached}");
    let (status, published) = post(&format!("{base}/publish"), token, json!({})).await;
    assert_eq!(status, 200, "{published}");
    let running = chatia.refuses(&reseal).await;
    assert!(running.contains("A platform runs on"), "{running}");
    drop(platform);

    assert!(chatia.says(&reseal).await.contains("Sealed anew: 0."), "nothing was rotated yet");
    let new = json!({"id": "k2", "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="});
    let mut old = Vec::new();
    rotate(&data_dir, |ring| {
        old.clone_from(&ring);
        [vec![new.clone()], ring].concat()
    });
    let told = chatia.says(&reseal).await;
    assert!(told.contains("Sealed anew: 3.") && told.contains("Everything is sealed by the first key"), "{told}");
    assert!(chatia.says(&reseal).await.contains("Sealed anew: 0."));
    rotate(&data_dir, |_| vec![new.clone()]);
    assert!(chatia.says(&reseal).await.contains("Everything is sealed by the first key"), "the old key is gone");
    // With the wrong key nothing is lost, and it is said what does not open.
    rotate(&data_dir, |_| old);
    let closed = chatia.refuses(&reseal).await;
    assert!(closed.contains("3 secrets are opened by no key") && closed.contains("The first of them: "), "{closed}");
    rotate(&data_dir, |_| vec![new]);
    assert!(chatia.says(&reseal).await.contains("Sealed anew: 0."));
}
