//! Makes the module of declarations from finermoe.h. FINERMOE_INCLUDE is the folder of the header, FINERMOE_LIB that of
//! the library.
use std::{env, path::PathBuf};

fn main() {
    let include = env::var("FINERMOE_INCLUDE").expect("FINERMOE_INCLUDE: the folder of finermoe.h");
    let library = env::var("FINERMOE_LIB").expect("FINERMOE_LIB: the folder of libfinermoe.so");
    println!("cargo:rerun-if-env-changed=FINERMOE_INCLUDE");
    println!("cargo:rerun-if-env-changed=FINERMOE_LIB");
    println!("cargo:rerun-if-changed={include}/finermoe.h");
    println!("cargo:rustc-link-search=native={library}");
    println!("cargo:rustc-link-lib=dylib=finermoe");
    bindgen::Builder::default()
        .header(format!("{include}/finermoe.h"))
        .allowlist_item("(finermoe|FINERMOE)_.*")
        .generate_comments(false)
        .generate()
        .expect("bindgen understands finermoe.h")
        .write_to_file(PathBuf::from(env::var("OUT_DIR").unwrap()).join("finermoe.rs"))
        .expect("the module can be written");
}
