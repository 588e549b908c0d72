#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kas402_fuzz::facilitator_call(data));
