//! What a row says, and the objects that it asks for.

use finermoe::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::borrow::BorrowMut;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The root of the project.
pub fn source() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");
    std::env::var_os("FINERMOE_SOURCE").map_or_else(|| PathBuf::from(beside), PathBuf::from)
}

/// A value that a row must have.
pub fn field<T: DeserializeOwned>(row: &Value, name: &str) -> Result<T> {
    T::deserialize(&row[name]).map_err(|why| format!("{name}: {why}").into())
}

/// A value that a row may have.
pub fn maybe<T: DeserializeOwned>(row: &Value, name: &str) -> Result<Option<T>> {
    match &row[name] {
        Value::Null => Ok(None),
        _ => field(row, name).map(Some),
    }
}

pub fn flag(row: &Value, name: &str) -> bool {
    row[name].as_bool().unwrap_or(false)
}

pub fn fields(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().ok_or_else(|| "not an object".into())
}

pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// `name`, or `name`_utf16, where a lone surrogate becomes U+FFFD.
pub fn text(row: &Value, name: &str) -> Result<String> {
    match maybe::<Vec<u16>>(row, &format!("{name}_utf16"))? {
        Some(units) => Ok(String::from_utf16_lossy(&units)),
        None => field(row, name),
    }
}

pub fn from_hexadecimal(digits: &str) -> Result<Vec<u8>> {
    (0..digits.len()).step_by(2).map(|i| Ok(u8::from_str_radix(&digits[i..i + 2], 16)?)).collect()
}

pub fn to_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn model_path(row: &Value) -> Result<PathBuf> {
    Ok(match maybe::<String>(row, "shape")? {
        Some(shape) => source().join("tests/data/shapes").join(shape),
        None => example_model(&maybe::<String>(row, "model")?.unwrap_or("tiny-wordnet-finermoe".into())),
    })
}

pub fn example_model(name: &str) -> PathBuf {
    source().join("examples/models").join(name)
}

pub fn open_model(row: &Value) -> Result<Model> {
    Ok(Model::builder(model_path(row)?).threads(2).open()?)
}

pub fn tokenizer(row: &Value) -> Result<Tokenizer> {
    Ok(Tokenizer::open(model_path(row)?)?)
}

/// The flags of a text or a chat.
pub fn text_flags(row: &Value) -> TextFlags {
    let named = [
        ("parse_special", TextFlags::PARSE_SPECIAL),
        ("show_special", TextFlags::SHOW_SPECIAL),
        ("no_generation_prompt", TextFlags::NO_GENERATION_PROMPT),
        ("no_special_tokens", TextFlags::NO_SPECIAL_TOKENS),
        ("continue_last", TextFlags::CONTINUE_LAST),
    ];
    named.into_iter().filter(|(name, _)| flag(row, name)).map(|(_, flag)| flag).collect()
}

/// An enum by its name in the row: "bf16", "virtual_group".
pub fn named<T: DeserializeOwned>(row: &Value, name: &str) -> Result<Option<T>> {
    maybe(row, name)
}

/// The number that the header has for an enum, which the rows of infos give: the place of its name.
pub fn number_of<T: serde::Serialize>(value: T, names: &[&str]) -> Result<Value> {
    let name = serde_json::to_value(value)?;
    Ok(names.iter().position(|&one| name == one).into())
}

pub const DTYPES: [&str; 5] = ["f32", "f16", "bf16", "q8", "q4"];
pub const PRECISIONS: [&str; 2] = ["exact", "fast"];

pub fn session_options(row: &Value) -> Result<SessionOptions> {
    let mut options = SessionOptions::new();
    if let Some(length) = maybe(row, "context_length")? {
        options = options.context_length(length);
    }
    if let Some(chunk) = maybe(row, "chunk")? {
        options = options.chunk(chunk);
    }
    if let Some(dtype) = named(row, "kv_dtype")? {
        options = options.kv_dtype(dtype);
    }
    if let Some(precision) = named(row, "precision")? {
        options = options.precision(precision);
    }
    Ok(options)
}

pub fn open_session(model: &Model, row: &Value) -> Result<Session> {
    Ok(model.session().options(session_options(row)?).create()?)
}

/// A model and a session as the row says.
pub fn open(row: &Value) -> Result<(Model, Session)> {
    let model = open_model(row)?;
    let session = open_session(&model, row)?;
    Ok((model, session))
}

/// A model that drafts, and how many tokens for one pass.
pub fn draft(row: &Value) -> Result<(Model, usize)> {
    let (folder, n): (String, usize) = field(row, "draft")?;
    Ok((open_model(&serde_json::json!({ "model": folder }))?, n))
}

/// One option of a generation, by its name in a row.
pub fn set_option(to: GenerationOptions, name: &str, value: &Value) -> Result<GenerationOptions> {
    let row = serde_json::json!({ name: value });
    let ids = |to, add: fn(GenerationOptions, i32) -> GenerationOptions| -> Result<_> {
        Ok(field::<Vec<i32>>(&row, name)?.into_iter().fold(to, add))
    };
    Ok(match name {
        "max_tokens" => to.max_tokens(field(&row, name)?),
        "min_tokens" => to.min_tokens(field(&row, name)?),
        "temperature" => to.temperature(field(&row, name)?),
        "top_k" => to.top_k(field(&row, name)?),
        "top_p" => to.top_p(field(&row, name)?),
        "min_p" => to.min_p(field(&row, name)?),
        "typical_p" => to.typical_p(field(&row, name)?),
        "repetition_penalty" => to.repetition_penalty(field(&row, name)?),
        "frequency_penalty" => to.frequency_penalty(field(&row, name)?),
        "presence_penalty" => to.presence_penalty(field(&row, name)?),
        "seed" => to.seed(field(&row, name)?),
        "ignore_eos" => to.ignore_eos(field(&row, name)?),
        "top_logprobs" => to.top_logprobs(field(&row, name)?),
        "show_special" => to.show_special(field(&row, name)?),
        "lookup" => to.lookup(field(&row, name)?),
        "draft" => {
            let (model, n) = draft(&row)?;
            to.draft(&model, n)
        }
        "banned_tokens" => ids(to, GenerationOptions::banned_token)?,
        "stop_tokens" => ids(to, GenerationOptions::stop_token)?,
        "logit_bias" => {
            let biases: Vec<(i32, f32)> = field(&row, name)?;
            biases.into_iter().fold(to, |to, (id, bias)| to.logit_bias(id, bias))
        }
        "stop" => field::<Vec<String>>(&row, name)?.iter().fold(to, |to, text| to.stop(text)),
        "clear_stop_tokens" => to.clear_stop_tokens(),
        _ => return Err(format!("no such option: {name}").into()),
    })
}

/// The options of a row on top of others; stop tokens are cleared first.
pub fn set_options(mut to: GenerationOptions, options: &Value) -> Result<GenerationOptions> {
    let none = Map::new();
    let options = options.as_object().unwrap_or(&none);
    let clear = |name: &str| name == "clear_stop_tokens";
    for (name, value) in options.iter().filter(|(name, _)| clear(name)) {
        to = set_option(to, name, value)?;
    }
    for (name, value) in options.iter().filter(|(name, _)| !clear(name)) {
        to = set_option(to, name, value)?;
    }
    Ok(to)
}

pub fn messages(row: &Value) -> Result<Vec<Message>> {
    items(&row["messages"])
        .iter()
        .map(|message| Ok(Message::new(field::<String>(message, "role")?, text(message, "content")?)))
        .collect()
}

/// A request of a row on a session, which may be `&mut` or owned.
pub fn start<S: BorrowMut<Session>>(session: S, row: &Value) -> Result<Generation<S>> {
    let model = session.borrow().model().clone();
    let prompt = if row["messages"].is_array() {
        Prompt::from(Chat::of(&messages(row)?)?)
    } else if row["ids"].is_array() {
        Prompt::from(field::<Vec<i32>>(row, "ids")?)
    } else {
        Prompt::from(text(row, "prompt")?)
    };
    let options = set_options(model.generation_options(), &row["options"])?;
    let tag = maybe(row, "tag")?.unwrap_or(0);
    Ok(Request::new(session, prompt).options(&options).flags(text_flags(row)).tag(tag).start()?)
}

pub fn argmax(values: &[f32]) -> Option<usize> {
    // The first of equals.
    (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b]))
}

pub fn columns(values: &[f32], row: &Value) -> Result<Vec<f32>> {
    let columns: Vec<usize> = field(row, "columns")?;
    Ok(columns.into_iter().map(|column| values[column]).collect())
}

/// The code of a call that must fail, by its name in C.
pub fn code_of<T>(result: std::result::Result<T, finermoe::Error>) -> &'static str {
    result.err().map_or("FINERMOE_OK", |error| error.name())
}
