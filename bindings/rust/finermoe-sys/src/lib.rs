//! The C API of libfinermoe: one item for each one of `finermoe.h`, which is the manual. Everything here is as in C,
//! unsafe included; the crate `finermoe` is what programs use.
#![no_std]
#![allow(non_camel_case_types, non_upper_case_globals)]

include!(concat!(env!("OUT_DIR"), "/finermoe.rs"));
