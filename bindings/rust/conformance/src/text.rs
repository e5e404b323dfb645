//! Kinds of rows: text.

use crate::Behaviour;
use crate::row::*;
use finermoe::{Chat, Message, TextFlags, Tokenizer};
use serde_json::{Value, json};

pub fn kind(name: &str) -> Option<Behaviour> {
    Some(match name {
        "encode" => encode,
        "encode_repeated" => encode_repeated,
        "decode" => decode,
        "stream_decode" => stream_decode,
        "token" => token,
        "find" => find,
        "chat_prompt" => chat_prompt,
        "chat_edit" => chat_edit,
        "tokenizer_info" => tokenizer_info,
        "tokenizer_memory" => tokenizer_memory,
        _ => return None,
    })
}

fn encode(row: &Value) -> Result<Value> {
    let (tokenizer, text, flags) = (tokenizer(row)?, text(row, "text")?, text_flags(row));
    let encoding = tokenizer.encode_offsets(&text, flags)?;
    if tokenizer.encode_with(&text, flags)? != encoding.ids {
        return Err("other ids without offsets".into());
    }
    let offsets: Vec<_> = encoding.offsets.iter().map(|range| [range.start, range.end]).collect();
    Ok(json!({"ids": encoding.ids, "offsets": offsets, "count": tokenizer.count(&text, flags)?}))
}

fn encode_repeated(row: &Value) -> Result<Value> {
    let (tokenizer, text) = (tokenizer(row)?, text(row, "text")?.repeat(field(row, "times")?));
    let ids = tokenizer.encode_with(&text, text_flags(row))?;
    if tokenizer.decode_with(&ids, TextFlags::SHOW_SPECIAL)? != text {
        return Err("decoding gives another text".into());
    }
    Ok(json!({"count": ids.len(), "first": ids[..8], "last": ids[ids.len() - 8..]}))
}

fn decode(row: &Value) -> Result<Value> {
    let ids: Vec<i32> = field(row, "ids")?;
    Ok(json!({"text": tokenizer(row)?.decode_with(&ids, text_flags(row))?}))
}

fn stream_decode(row: &Value) -> Result<Value> {
    let mut decoder = tokenizer(row)?.decoder(text_flags(row))?;
    let ids: Vec<i32> = field(row, "ids")?;
    let mut pieces = ids.into_iter().map(|id| decoder.push(id)).collect::<finermoe::Result<Vec<_>>>()?;
    pieces.push(decoder.flush()?);
    Ok(json!({"pieces": pieces}))
}

fn token(row: &Value) -> Result<Value> {
    let (tokenizer, ids) = (tokenizer(row)?, field::<Vec<i32>>(row, "ids")?);
    let tokens = ids.into_iter().map(|id| tokenizer.token(id).map(|(bytes, kind)| (to_hexadecimal(&bytes), kind)));
    Ok(json!({"tokens": tokens.collect::<finermoe::Result<Vec<_>>>()?}))
}

fn find(row: &Value) -> Result<Value> {
    let tokenizer = tokenizer(row)?;
    let find = |digits: &String| Ok(tokenizer.find(from_hexadecimal(digits)?)?.unwrap_or(-1));
    let ids = field::<Vec<String>>(row, "bytes")?.iter().map(find).collect::<Result<Vec<_>>>()?;
    Ok(json!({"ids": ids}))
}

fn chat_prompt(row: &Value) -> Result<Value> {
    let (tokenizer, chat, flags) = (tokenizer(row)?, Chat::of(&messages(row)?)?, text_flags(row));
    Ok(json!({"ids": chat.encode(&tokenizer, flags)?, "text": chat.render(&tokenizer, flags)?}))
}

fn chat_edit(row: &Value) -> Result<Value> {
    let mut chat = Chat::new()?;
    for edit in items(&row["edits"]) {
        let number = |at: usize| usize::try_from(edit[at].as_u64().unwrap_or_default());
        let text = |at: usize| edit[at].as_str().unwrap_or_default();
        match text(0) {
            "add" => chat.add(&Message::new(text(1), text(2)))?,
            "set" => chat.set(number(1)?, text(2))?,
            "truncate" => chat.truncate(number(1)?)?,
            "remove" => chat.remove(number(1)?..number(2)?)?,
            other => return Err(format!("no such edit: {other}").into()),
        }
    }
    let messages: Vec<_> = chat.messages()?.into_iter().map(|message| [message.role, message.content]).collect();
    Ok(json!({"messages": messages}))
}

fn tokenizer_info(row: &Value) -> Result<Value> {
    let mut info = serde_json::to_value(tokenizer(row)?.info()?)?;
    for id in ["bos_id", "eos_id", "pad_id", "end_of_turn_id"] {
        if info[id].is_null() {
            info[id] = (-1).into();
        }
    }
    Ok(info)
}

fn tokenizer_memory(row: &Value) -> Result<Value> {
    let read = |name: &str| -> Result<Vec<u8>> { Ok(std::fs::read(model_path(row)?.join(name))?) };
    let (json, config) = (read("tokenizer.json")?, read("tokenizer_config.json")?);
    let tokenizer = Tokenizer::from_json(json, Some(&config))?;
    Ok(json!({"ids": tokenizer.encode_with(&text(row, "text")?, text_flags(row))?}))
}
