//! What must not compile.

#[test]
#[ignore = "compares the compiler's messages, which are those of Rust 1.95; tests/bindings/rust_test.py runs it there"]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
