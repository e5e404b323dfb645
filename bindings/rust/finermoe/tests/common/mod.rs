//! What the tests share.

use finermoe::{Model, Session};
use std::path::PathBuf;

pub fn model_path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/models/tiny-wordnet-finermoe"))
}

pub fn model() -> Model {
    Model::builder(model_path()).threads(1).open().unwrap()
}

#[allow(dead_code)] // not every test program has sessions
pub fn session(model: &Model) -> Session {
    model.session().context_length(128).create().unwrap()
}
