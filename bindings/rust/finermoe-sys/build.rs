//! Finds libfinermoe, or builds it, and makes the module of declarations from its header.
//!
//! In this order:
//! - feature `vendored`: the library is built from its sources, which are FINERMOE_SOURCE_DIR or three folders above
//!   this crate, and linked statically;
//! - FINERMOE_LIB_DIR, the folder of libfinermoe.so or libfinermoe.a, and FINERMOE_INCLUDE_DIR, that of finermoe.h.
//!   With FINERMOE_STATIC=1 the static one is linked;
//! - pkg-config.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What libfinermoe.a needs: the `static_needs` of src/api/meson.build.
const STATIC_NEEDS: [&str; 4] = ["pcre2-8", "utf8proc", "crypto", "stdc++"];

fn main() -> Result<()> {
    let include = if env::var_os("CARGO_FEATURE_VENDORED").is_some() {
        build_library()?
    } else if let (Some(library), Some(include)) = (variable("FINERMOE_LIB_DIR"), variable("FINERMOE_INCLUDE_DIR")) {
        link(Path::new(&library), variable("FINERMOE_STATIC").is_some_and(|value| value != "0"));
        PathBuf::from(include)
    } else {
        find_installed()?
    };
    declare(&include)
}

/// An environment variable, whose change is a reason to run this program again.
fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn link(folder: &Path, statically: bool) {
    println!("cargo:rustc-link-search=native={}", folder.display());
    if statically {
        println!("cargo:rustc-link-lib=static=finermoe");
        for name in STATIC_NEEDS {
            println!("cargo:rustc-link-lib={name}");
        }
    } else {
        println!("cargo:rustc-link-lib=dylib=finermoe");
    }
}

/// The library that pkg-config knows. Returns the folder of its header.
fn find_installed() -> Result<PathBuf> {
    let found =
        pkg_config::Config::new().atleast_version(env!("CARGO_PKG_VERSION")).probe("finermoe").map_err(|why| {
            format!(
                "libfinermoe was not found. Install it, or set FINERMOE_LIB_DIR and FINERMOE_INCLUDE_DIR, or use the \
             feature `vendored`, which builds it.\n{why}"
            )
        })?;
    let headers = found.include_paths.iter().map(PathBuf::as_path).chain([Path::new("/usr/include")]);
    Ok(headers
        .map(Path::to_owned)
        .find(|folder| folder.join("finermoe.h").exists())
        .ok_or("finermoe.h was not found")?)
}

/// Builds the library in OUT_DIR and links it. Returns the folder of its header.
fn build_library() -> Result<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let source = variable("FINERMOE_SOURCE_DIR").map_or(beside, PathBuf::from);
    if !source.join("include/finermoe.h").exists() {
        return Err(format!("{}: no sources of libfinermoe; set FINERMOE_SOURCE_DIR", source.display()).into());
    }
    for part in ["src", "include", "meson.build"] {
        println!("cargo:rerun-if-changed={}", source.join(part).display());
    }
    let build = PathBuf::from(env::var("OUT_DIR")?).join("libfinermoe");
    if !build.join("build.ninja").exists() {
        let options = ["-Ddefault_library=static", "-Dbuildtype=release", "-Dtools=false", "-Dtests=false"];
        run(Command::new("meson").arg("setup").arg(&build).arg(&source).args(options).arg("-Dexamples=false"))?;
    }
    let mut ninja = Command::new("ninja");
    ninja.arg("-C").arg(&build).arg("src/api/libfinermoe.a");
    if let Ok(jobs) = env::var("NUM_JOBS") {
        ninja.args(["-j", &jobs]);
    }
    run(&mut ninja)?;
    link(&build.join("src/api"), true);
    Ok(source.join("include"))
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().map_err(|why| format!("{}: {why}", command.get_program().to_string_lossy()))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Err(format!("{command:?}:\n{said}").into())
}

fn declare(include: &Path) -> Result<()> {
    let header = include.join("finermoe.h");
    println!("cargo:rerun-if-changed={}", header.display());
    let header = header.to_str().ok_or("the path of finermoe.h is not UTF-8")?;
    let module = bindgen::Builder::default()
        .header(header)
        .allowlist_item("(finermoe|FINERMOE)_.*")
        .use_core()
        .generate_comments(false)
        .generate()?;
    module.write_to_file(Path::new(&env::var("OUT_DIR")?).join("finermoe.rs"))?;
    Ok(())
}
