//! The widget's files: their weight, what they do not do, how they are kept. What they do is seen in a browser
//! (`tests/browser`).

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tests::TestApp;

const LAUNCHER: &str = "/widget.js";
const PANEL: [&str; 4] =
    ["/assets/widget-panel.js", "/assets/chat-core.js", "/assets/chat-view.js", "/assets/chat-texts.js"];

async fn text(test: &TestApp, path: &str) -> String {
    let file = test.anonymous().get(path).await;
    assert_eq!(file.status, 200, "{path}");
    file.text
}

fn compressed(text: &str) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().len()
}

#[tokio::test]
async fn the_launcher_weighs_at_most_four_kilobytes_and_the_whole_twenty_five() {
    let test = TestApp::new().await;
    let launcher = compressed(&text(&test, LAUNCHER).await);
    assert!(launcher <= 4_096, "the launcher has {launcher} bytes");
    let mut whole = launcher;
    for path in PANEL {
        whole += compressed(&text(&test, path).await);
    }
    assert!(whole <= 25_000, "launcher and panel have {whole} bytes");
    println!("launcher {launcher} bytes, launcher and panel {whole} bytes (gzip)");
}

#[tokio::test]
async fn the_launcher_loads_the_files_of_the_panel_and_no_others() {
    let test = TestApp::new().await;
    let launcher = text(&test, LAUNCHER).await;
    let list = launcher.split_once("const files = [").and_then(|(_, rest)| rest.split_once(']')).expect("the list").0;
    let files: Vec<String> =
        list.split(',').map(|name| format!("/assets/{}.js", name.trim().trim_matches('"'))).collect();
    assert_eq!(files, PANEL);
    assert_eq!(launcher.matches("import(").count(), 1);
    for network in ["fetch(", "XMLHttpRequest", "sendBeacon", "new Image", "EventSource", "WebSocket"] {
        assert!(!launcher.contains(network), "{network} before anybody has opened the chat");
    }
    for path in PANEL {
        assert!(!text(&test, path).await.contains("\nimport "), "{path}: what it needs is handed to it");
    }
}

#[tokio::test]
async fn nothing_in_the_widget_needs_what_a_strict_policy_forbids() {
    let test = TestApp::new().await;
    for path in PANEL.into_iter().chain([LAUNCHER]) {
        let file = text(&test, path).await;
        let forbidden = [
            "eval(",
            "Function(",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "style=",
            "\"style\"",
            ".cssText",
            "<style",
            "javascript:",
            "document.cookie",
            "sessionStorage",
            "localStorage.clear",
        ];
        for code in forbidden {
            assert!(!file.contains(code), "{path} has {code}");
        }
    }
}

#[tokio::test]
async fn a_file_that_has_not_changed_is_not_sent_again() {
    let test = TestApp::new().await;
    for path in PANEL.into_iter().chain([LAUNCHER, "/assets/chat.css"]) {
        let first = test.anonymous().get(path).await;
        assert_eq!(first.headers["cache-control"], "public, max-age=300", "{path}");
        let tag = first.headers["etag"].to_str().unwrap().to_owned();
        for had in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            let again = test.anonymous().call("GET", path, &[("if-none-match", &had)], None).await;
            assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path}: {had}");
            assert_eq!(again.headers["etag"], tag.as_str());
            assert_eq!(again.headers["access-control-allow-origin"], "*");
        }
        let other = test.anonymous().call("GET", path, &[("if-none-match", "\"other\"")], None).await;
        assert_eq!((other.status.as_u16(), other.text == first.text), (200, true), "{path}");
    }
}

#[tokio::test]
async fn files_may_be_loaded_by_pages_of_other_origins() {
    let test = TestApp::new().await;
    for path in PANEL.into_iter().chain([LAUNCHER]) {
        let file = test.anonymous().get(path).await;
        assert_eq!(
            file.headers["access-control-allow-origin"], "*",
            "{path}: modules are fetched by the rules of CORS"
        );
        assert_eq!(file.headers["cross-origin-resource-policy"], "cross-origin", "{path}: for isolated pages");
    }
}
