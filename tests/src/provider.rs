//! Stand-ins for model providers, byte for byte: what they send when all is well, and everything that goes wrong.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use shared::kernel::Secret;
use shared::ports::egress::{Egress, EgressConfig, managed_client};
use shared::ports::llm::{Models, ModelsConfig, OpenAiApi};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a provider does with one request.
#[derive(Debug, Clone)]
pub enum Does {
    /// It answers with a status, a header and a body, and ends as it should.
    Answers(u16, (&'static str, &'static str), String),
    /// It sends the beginning of a stream, and the connection breaks in the middle of it.
    BreaksOff(String),
    /// It sends the beginning of a stream, and then nothing more.
    Hangs(String),
    /// It sends the beginning of a stream, and then one more piece and one more. Should somebody listen for longer than any
    /// turn of a test may take, it ends as it should.
    Drips {
        /// The beginning.
        begun: String,
        /// What comes again and again.
        piece: String,
        /// The end.
        end: String,
    },
    /// It takes the request and says nothing at all.
    IsSilent,
}

/// How often a stream that drips does so, and its pace.
const DRIPS: u32 = 1_000;
const PACE: Duration = Duration::from_millis(10);

impl Does {
    /// It streams this, and ends as HTTP should.
    #[must_use]
    pub fn stream(events: String) -> Self {
        Self::Answers(200, ("content-type", "text/event-stream"), events)
    }
}

/// A provider on loopback.
pub struct FakeProvider {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl FakeProvider {
    /// A provider that does one thing after the other, and the last one again and again.
    ///
    /// # Panics
    /// When there is no port, or nothing to do.
    pub async fn start(does: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (mut script, notes) = (VecDeque::from(does), Arc::clone(&heard));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let next = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
                let (next, notes) = (next.expect("something to do"), Arc::clone(&notes));
                // A client that leaves early is what some tests are about.
                tokio::spawn(async move { drop(serve(socket, next, &notes).await) });
            }
        });
        Self { address, heard }
    }

    /// The bodies of all requests so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The models that are asked here, without pauses between retries.
    ///
    /// # Panics
    /// Never: the addresses are valid.
    #[must_use]
    pub fn models(&self, protocol: Protocol) -> Models {
        let base = |path: &str| format!("http://{}{path}", self.address).parse().expect("an address");
        let config = ModelsConfig {
            openai_base_url: base("/v1"),
            openai_api: if protocol == Protocol::Responses { OpenAiApi::Responses } else { OpenAiApi::Chat },
            openai_api_key: Some(Secret::new("sk-test")),
            anthropic_base_url: base(""),
            anthropic_version: "2026-10-21".into(),
            anthropic_api_key: Some(Secret::new("sk-ant-test")),
        };
        let client = managed_client().expect("a client");
        Models::new(config, client, Arc::new(Egress::new(EgressConfig::default()))).with_backoff(Duration::ZERO)
    }
}

async fn serve(mut socket: TcpStream, does: Does, heard: &Mutex<Vec<Value>>) -> io::Result<()> {
    let body = read(&mut socket).await?;
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    match does {
        Does::Answers(status, (name, value), body) => {
            let head = format!(
                "HTTP/1.1 {status} Said\r\n{name}: {value}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).await?;
            chunks(&mut socket, &body).await?;
            socket.write_all(b"0\r\n\r\n").await?;
        }
        Does::BreaksOff(begun) => {
            begin(&mut socket, &begun).await?;
            // More was promised.
            socket.write_all(b"40\r\ndata: {\"").await?;
        }
        Does::Hangs(begun) => {
            begin(&mut socket, &begun).await?;
            wait_for_end(&mut socket).await?;
        }
        Does::Drips { begun, piece, end } => {
            begin(&mut socket, &begun).await?;
            for _ in 0..DRIPS {
                chunks(&mut socket, &piece).await?;
                // A provider's pace; writing fails once nobody listens any more.
                tokio::time::sleep(PACE).await;
            }
            chunks(&mut socket, &end).await?;
            socket.write_all(b"0\r\n\r\n").await?;
        }
        Does::IsSilent => wait_for_end(&mut socket).await?,
    }
    Ok(())
}

async fn begin(socket: &mut TcpStream, begun: &str) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await?;
    chunks(socket, begun).await
}

/// In odd pieces, as networks cut them.
async fn chunks(socket: &mut TcpStream, text: &str) -> io::Result<()> {
    for chunk in text.as_bytes().chunks(61) {
        socket.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        socket.write_all(chunk).await?;
        socket.write_all(b"\r\n").await?;
    }
    Ok(())
}

/// Until the other side gives up.
async fn wait_for_end(socket: &mut TcpStream) -> io::Result<()> {
    while socket.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

/// The JSON body of a request.
async fn read(socket: &mut TcpStream) -> io::Result<Value> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let body = &bytes[end + 4..];
        if length.is_some_and(|length| body.len() >= length) {
            return Ok(serde_json::from_slice(body).unwrap_or_default());
        }
    }
}

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OpenAI's Chat Completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Anthropic,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Responses, Self::Anthropic];

    /// The provider that speaks it.
    #[must_use]
    pub const fn provider(self) -> &'static str {
        match self {
            Self::Chat | Self::Responses => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// A whole answer of these pieces.
    #[must_use]
    pub fn text(self, pieces: &[&str]) -> String {
        self.begins(pieces) + &self.ends(pieces)
    }

    /// The end of an answer of these pieces.
    #[must_use]
    pub fn ends(self, pieces: &[&str]) -> String {
        match self {
            Self::Chat => chat_end("stop"),
            Self::Responses => responses_end(&json!([{"type": "message", "id": "msg_1", "role": "assistant",
                "status": "completed", "content": [{"type": "output_text", "text": pieces.concat(),
                "annotations": []}]}])),
            Self::Anthropic => anthropic_end("end_turn"),
        }
    }

    /// The beginning of an answer, as far as these pieces.
    #[must_use]
    pub fn begins(self, pieces: &[&str]) -> String {
        let opening = match self {
            Self::Chat => chat_delta(&json!({"role": "assistant", "content": "", "refusal": null})),
            Self::Responses => responses_begin(),
            Self::Anthropic => {
                let text = json!({"type": "content_block_start", "index": 0,
                    "content_block": {"type": "text", "text": ""}});
                anthropic_begin() + &named(&text) + &named(&json!({"type": "ping"}))
            }
        };
        opening + &pieces.iter().map(|piece| self.piece(piece)).collect::<String>()
    }

    /// One more piece of an answer.
    #[must_use]
    pub fn piece(self, piece: &str) -> String {
        match self {
            Self::Chat => chat_delta(&json!({"content": piece})),
            Self::Responses => named(&json!({"type": "response.output_text.delta", "sequence_number": 4,
                "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": piece, "logprobs": [],
                "obfuscation": "n8Qa"})),
            Self::Anthropic => named(&json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": piece}})),
        }
    }

    /// An answer that calls a tool, with the arguments as the model wrote them.
    #[must_use]
    pub fn calls(self, tool: &str, arguments: &str) -> String {
        match self {
            Self::Chat => {
                let first = json!({"index": 0, "id": "call_1", "type": "function",
                    "function": {"name": tool, "arguments": ""}});
                let rest = json!({"index": 0, "function": {"arguments": arguments}});
                chat_delta(&json!({"role": "assistant", "content": null, "tool_calls": [first]}))
                    + &chat_delta(&json!({"tool_calls": [rest]}))
                    + &chat_end("tool_calls")
            }
            Self::Responses => {
                let item = |arguments: &str, status: &str| {
                    json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool,
                    "arguments": arguments, "status": status})
                };
                responses_begin()
                    + &named(&json!({"type": "response.output_item.added", "output_index": 0,
                        "item": item("", "in_progress")}))
                    + &named(&json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1",
                        "output_index": 0, "delta": arguments}))
                    + &named(&json!({"type": "response.output_item.done", "output_index": 0,
                        "item": item(arguments, "completed")}))
                    + &responses_end(&json!([item(arguments, "completed")]))
            }
            Self::Anthropic => {
                anthropic_begin()
                    + &named(&json!({"type": "content_block_start", "index": 0, "content_block":
                        {"type": "tool_use", "id": "call_1", "name": tool, "input": {}}}))
                    + &named(&json!({"type": "content_block_delta", "index": 0,
                        "delta": {"type": "input_json_delta", "partial_json": arguments}}))
                    + &anthropic_end("tool_use")
            }
        }
    }

    /// As [`Self::calls`], after reasoning with this seal where the protocol has such a thing.
    #[must_use]
    pub fn reasons_and_calls(self, seal: &str, tool: &str, arguments: &str) -> String {
        let call = json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool,
            "arguments": arguments, "status": "completed"});
        match self {
            Self::Chat => self.calls(tool, arguments),
            Self::Responses => {
                let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal});
                responses_begin() + &responses_end(&json!([reasoning, call]))
            }
            Self::Anthropic => {
                let delta = |delta: Value| named(&json!({"type": "content_block_delta", "index": 0, "delta": delta}));
                let block = |index: u64, block: Value| {
                    named(&json!({"type": "content_block_start", "index": index, "content_block": block}))
                };
                anthropic_begin()
                    + &block(0, json!({"type": "thinking", "thinking": "", "signature": ""}))
                    + &delta(json!({"type": "thinking_delta", "thinking": "An address."}))
                    + &delta(json!({"type": "signature_delta", "signature": seal}))
                    + &block(1, json!({"type": "tool_use", "id": "call_1", "name": tool, "input": {}}))
                    + &named(&json!({"type": "content_block_delta", "index": 1,
                        "delta": {"type": "input_json_delta", "partial_json": arguments}}))
                    + &anthropic_end("tool_use")
            }
        }
    }

    /// What stands in a stream, after HTTP 200, when the provider is overloaded.
    #[must_use]
    pub fn fails(self) -> String {
        match self {
            Self::Chat => data(&json!({"error": {"message": "The server had an error", "type": "server_error",
                "param": null, "code": null}})),
            Self::Responses => named(&json!({"type": "response.failed", "response": {"id": "resp_1",
                "status": "failed", "error": {"code": "server_error", "message": "The server had an error"}}})),
            Self::Anthropic => {
                named(&json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))
            }
        }
    }

    /// Too many requests: another one will do.
    #[must_use]
    pub fn is_busy(self) -> Does {
        let code = match self {
            Self::Chat | Self::Responses => json!({"type": "requests", "code": "rate_limit_exceeded"}),
            Self::Anthropic => json!({"type": "rate_limit_error"}),
        };
        Does::Answers(429, ("retry-after", "0"), json!({"error": code}).to_string())
    }

    /// Too many requests, as some tell an account that has to pay first: no other one will do.
    #[must_use]
    pub fn is_spent(self) -> Does {
        let code = match self {
            Self::Chat | Self::Responses => json!({"type": "insufficient_quota", "code": "insufficient_quota"}),
            Self::Anthropic => json!({"type": "rate_limit_error",
                "details": {"error_code": "enforced_spend_limit_reached"}}),
        };
        Does::Answers(429, ("retry-after", "0"), json!({"error": code}).to_string())
    }

    /// Overloaded, in the provider's own number.
    #[must_use]
    pub fn is_overloaded(self) -> Does {
        match self {
            Self::Chat | Self::Responses => Does::Answers(503, ("content-type", "text/plain"), "upstream".into()),
            Self::Anthropic => {
                let body = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
                Does::Answers(529, ("content-type", "application/json"), body.to_string())
            }
        }
    }
}

fn data(event: &Value) -> String {
    format!("data: {event}\n\n")
}

fn named(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}

fn chat_chunk(choices: &Value, usage: &Value) -> String {
    data(&json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "m-1-2026",
        "choices": choices, "usage": usage, "obfuscation": "Zk3"}))
}

fn chat_delta(delta: &Value) -> String {
    chat_chunk(&json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]), &Value::Null)
}

fn chat_end(reason: &str) -> String {
    let usage = json!({"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45,
        "prompt_tokens_details": {"cached_tokens": 30}, "completion_tokens_details": {"reasoning_tokens": 2}});
    chat_chunk(&json!([{"index": 0, "delta": {}, "finish_reason": reason}]), &Value::Null)
        + &chat_chunk(&json!([]), &usage)
        + "data: [DONE]\n\n"
}

fn responses_begin() -> String {
    named(&json!({"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "object": "response",
        "model": "m-1-2026", "status": "in_progress", "output": []}}))
}

fn responses_end(output: &Value) -> String {
    let usage = json!({"input_tokens": 40, "input_tokens_details": {"cached_tokens": 30}, "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 45});
    named(&json!({"type": "response.completed", "sequence_number": 9, "response": {"id": "resp_1",
        "model": "m-1-2026", "status": "completed", "output": output, "usage": usage}}))
}

fn anthropic_begin() -> String {
    let usage = json!({"input_tokens": 4, "cache_creation_input_tokens": 6, "cache_read_input_tokens": 30,
        "output_tokens": 1});
    named(&json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "m-1-2026", "content": [], "stop_reason": null, "usage": usage}}))
}

fn anthropic_end(reason: &str) -> String {
    named(&json!({"type": "content_block_stop", "index": 0}))
        + &named(&json!({"type": "message_delta", "delta": {"stop_reason": reason},
            "usage": {"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2}}}))
        + &named(&json!({"type": "message_stop"}))
}
