//! Defines a word with a FineRMoE model: define MODEL.
#[allow(non_camel_case_types, non_upper_case_globals, dead_code)]
mod finermoe {
    include!(concat!(env!("OUT_DIR"), "/finermoe.rs"));
}
use finermoe::*;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::ptr::{null, null_mut};

const QUESTION: &str = "Define the noun \"lighthouse\".";

fn name(status: finermoe_status) -> String {
    unsafe { CStr::from_ptr(finermoe_status_name(status)).to_string_lossy().into_owned() }
}

/// Makes one object, or ends the program with the library's message.
fn made<T>(create: impl FnOnce(*mut *mut T, *mut *mut finermoe_error) -> finermoe_status) -> *mut T {
    let (mut object, mut error) = (null_mut(), null_mut());
    if create(&mut object, &mut error) != FINERMOE_OK as finermoe_status {
        panic!("{}", unsafe { CStr::from_ptr(finermoe_error_message(error)).to_string_lossy() });
    }
    object
}

fn main() {
    let path = CString::new(std::env::args().nth(1).expect("usage: define MODEL")).unwrap();
    let nowhere = CString::new("/no/such/model").unwrap();
    let user = CString::new("user").unwrap();
    unsafe {
        let model = made(|out, error| finermoe_model_open(path.as_ptr(), null(), out, error));
        let session = made(|out, error| finermoe_session_create(model, null(), out, error));
        let chat = made(|out, error| finermoe_chat_create(out, error));
        finermoe_chat_add(chat, user.as_ptr(), QUESTION.as_ptr().cast(), QUESTION.len(), null_mut());
        let generation = made(|out, error| finermoe_generation_create_chat(session, null(), chat, 0, out, error));
        let mut event: finermoe_event = std::mem::zeroed();
        event.struct_size = std::mem::size_of::<finermoe_event>() as u32;
        while event.finish_reason == FINERMOE_FINISH_NONE as i32 {
            let status = finermoe_generation_next(generation, null_mut(), &mut event, null_mut());
            assert_eq!(status, FINERMOE_OK as finermoe_status, "{}", name(status));
            let text = std::slice::from_raw_parts(event.text.cast::<u8>(), event.text_length);
            std::io::stdout().write_all(text).unwrap();
        }
        println!();

        let (mut missing, mut error) = (null_mut(), null_mut());
        finermoe_model_open(nowhere.as_ptr(), null(), &mut missing, &mut error);
        println!("error {}", name(finermoe_error_code(error)));

        let cancel = made(|out, error| finermoe_cancel_create(out, error));
        finermoe_cancel_request(cancel);
        finermoe_session_reset(session, null_mut());
        let request = made(|out, error| finermoe_generation_create_chat(session, null(), chat, 0, out, error));
        println!("cancelled {}", name(finermoe_generation_next(request, cancel, &mut event, null_mut())));

        finermoe_model_close(model);
        finermoe_model_free(model); // any order will do
        finermoe_session_free(session);
        finermoe_chat_free(chat);
        finermoe_generation_free(generation);
        finermoe_generation_free(request);
        finermoe_cancel_free(cancel);
        finermoe_error_free(error);
    }
    println!("closed");
}
