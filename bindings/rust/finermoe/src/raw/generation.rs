//! Section 9 of the header: generations, their options, the sampler, batches.

use super::*;

impl GenerationOptions {
    /// With the model's defaults, or neutral ones.
    pub fn create(model: Option<&Model>) -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe {
            sys::finermoe_generation_options_create(pointer_to(model), out, error)
        })
    }

    pub fn copy(&self) -> Result<Self> {
        Self::made(self.keep().clone(), |out, error| unsafe {
            sys::finermoe_generation_options_copy(self.ptr(), out, error)
        })
    }

    setters! {
        set_max_tokens(usize) = finermoe_generation_options_set_max_tokens;
        set_min_tokens(usize) = finermoe_generation_options_set_min_tokens;
        set_temperature(f64) = finermoe_generation_options_set_temperature;
        set_top_k(usize) = finermoe_generation_options_set_top_k;
        set_top_p(f64) = finermoe_generation_options_set_top_p;
        set_min_p(f64) = finermoe_generation_options_set_min_p;
        set_typical_p(f64) = finermoe_generation_options_set_typical_p;
        set_repetition_penalty(f64) = finermoe_generation_options_set_repetition_penalty;
        set_frequency_penalty(f64) = finermoe_generation_options_set_frequency_penalty;
        set_presence_penalty(f64) = finermoe_generation_options_set_presence_penalty;
        set_seed(u64) = finermoe_generation_options_set_seed;
        add_banned_token(i32) = finermoe_generation_options_add_banned_token;
        add_stop_token(i32) = finermoe_generation_options_add_stop_token;
        set_ignore_eos(i32) = finermoe_generation_options_set_ignore_eos;
        set_top_logprobs(usize) = finermoe_generation_options_set_top_logprobs;
        set_show_special(i32) = finermoe_generation_options_set_show_special;
        set_lookup(usize) = finermoe_generation_options_set_lookup;
    }

    /// The requests use the model's closures and bytes.
    pub fn set_draft(&mut self, model: &Model, n: usize) -> Result<()> {
        self.keep_too(std::sync::Arc::new(model.keep().clone()));
        check(|error| unsafe { sys::finermoe_generation_options_set_draft(self.ptr(), model.ptr(), n, error) })
    }

    pub fn add_logit_bias(&mut self, id: i32, bias: f32) -> Result<()> {
        check(|error| unsafe { sys::finermoe_generation_options_add_logit_bias(self.ptr(), id, bias, error) })
    }

    pub fn clear_stop_tokens(&mut self) -> Result<()> {
        check(|error| unsafe { sys::finermoe_generation_options_clear_stop_tokens(self.ptr(), error) })
    }

    pub fn add_stop_string(&mut self, text: &str) -> Result<()> {
        check(|error| unsafe {
            let (begin, length) = (chars(text.as_bytes()), text.len());
            sys::finermoe_generation_options_add_stop_string(self.ptr(), begin, length, error)
        })
    }

    pub fn info(&self) -> Result<GenerationOptionsInfo> {
        let info = read(|info, error| unsafe { sys::finermoe_generation_options_get_info(self.ptr(), info, error) })?;
        Ok(unsafe { GenerationOptionsInfo::from_c(&info) })
    }
}

impl Generation {
    pub fn create(session: &Session, options: &GenerationOptions, ids: &[i32]) -> Result<Self> {
        Self::made(session.keep().and(options.keep()), |out, error| unsafe {
            sys::finermoe_generation_create(session.ptr(), options.ptr(), ids.as_ptr(), ids.len(), out, error)
        })
    }

    pub fn create_text(session: &Session, options: &GenerationOptions, text: &str, flags: TextFlags) -> Result<Self> {
        Self::made(session.keep().and(options.keep()), |out, error| unsafe {
            let (begin, length) = (chars(text.as_bytes()), text.len());
            let flags = flags.bits();
            sys::finermoe_generation_create_text(session.ptr(), options.ptr(), begin, length, flags, out, error)
        })
    }

    pub fn create_chat(session: &Session, options: &GenerationOptions, chat: &Chat, flags: TextFlags) -> Result<Self> {
        Self::made(session.keep().and(options.keep()), |out, error| unsafe {
            sys::finermoe_generation_create_chat(session.ptr(), options.ptr(), chat.ptr(), flags.bits(), out, error)
        })
    }

    pub fn restore_memory(session: &Session, data: &[u8]) -> Result<Self> {
        Self::made(session.keep().clone(), |out, error| unsafe {
            let (begin, size) = (data.as_ptr().cast(), data.len());
            sys::finermoe_generation_restore_memory(session.ptr(), begin, size, out, error)
        })
    }

    /// The event is copied before anything else can call this generation: `&mut`.
    pub fn next(&mut self, cancel: Option<&Cancel>) -> Result<Event> {
        let event = read(|event, error| unsafe {
            sys::finermoe_generation_next(self.ptr(), pointer_to(cancel), event, error)
        })?;
        Ok(unsafe { Event::from_c(&event) })
    }

    pub fn append(&mut self, ids: &[i32]) -> Result<()> {
        check(|error| unsafe { sys::finermoe_generation_append(self.ptr(), ids.as_ptr(), ids.len(), error) })
    }

    pub fn finish(&mut self) -> Result<Event> {
        let event = read(|event, error| unsafe { sys::finermoe_generation_finish(self.ptr(), event, error) })?;
        Ok(unsafe { Event::from_c(&event) })
    }

    pub fn prepare(&mut self, cancel: Option<&Cancel>) -> Result<()> {
        check(|error| unsafe { sys::finermoe_generation_prepare(self.ptr(), pointer_to(cancel), error) })
    }

    pub fn logits(&self) -> Result<Vec<f32>> {
        fill(0, |logits, capacity, needed, error| unsafe {
            sys::finermoe_generation_get_logits(self.ptr(), logits, capacity, needed, error)
        })
    }

    pub fn logits_into(&self, logits: &mut [f32]) -> Result<usize> {
        let mut needed = 0;
        check(|error| unsafe {
            let (begin, capacity) = (logits.as_mut_ptr(), logits.len());
            sys::finermoe_generation_get_logits(self.ptr(), begin, capacity, &mut needed, error)
        })?;
        Ok(needed)
    }

    pub fn set_logits(&mut self, logits: &[f32]) -> Result<()> {
        check(|error| unsafe { sys::finermoe_generation_set_logits(self.ptr(), logits.as_ptr(), logits.len(), error) })
    }

    pub fn save_memory(&self) -> Result<Vec<u8>> {
        fill(1024, |data: *mut u8, capacity, needed, error| unsafe {
            sys::finermoe_generation_save_memory(self.ptr(), data.cast(), capacity, needed, error)
        })
    }

    pub fn info(&self) -> Result<GenerationInfo> {
        let info = read(|info, error| unsafe { sys::finermoe_generation_get_info(self.ptr(), info, error) })?;
        Ok(unsafe { GenerationInfo::from_c(&info) })
    }

    pub fn set_tag(&mut self, tag: u64) -> Result<()> {
        check(|error| unsafe { sys::finermoe_generation_set_tag(self.ptr(), tag, error) })
    }

    /// The caller keeps the model as long as the generation.
    pub fn set_draft(&mut self, model: Option<&Model>, n: usize) -> Result<()> {
        check(|error| unsafe { sys::finermoe_generation_set_draft(self.ptr(), pointer_to(model), n, error) })
    }

    pub fn last_error(&self) -> Option<Error> {
        check(|error| unsafe { sys::finermoe_generation_get_error(self.ptr(), error) }).err()
    }
}

impl Sampler {
    pub fn create(options: &GenerationOptions) -> Result<Self> {
        Self::made(Keep::default(), |out, error| unsafe { sys::finermoe_sampler_create(options.ptr(), out, error) })
    }

    pub fn accept_prompt(&mut self, ids: &[i32]) -> Result<()> {
        check(|error| unsafe { sys::finermoe_sampler_accept_prompt(self.ptr(), ids.as_ptr(), ids.len(), error) })
    }

    pub fn accept(&mut self, id: i32) -> Result<()> {
        check(|error| unsafe { sys::finermoe_sampler_accept(self.ptr(), id, error) })
    }

    pub fn choose(&mut self, logits: &[f32]) -> Result<i32> {
        let mut id = -1;
        check(|error| unsafe {
            sys::finermoe_sampler_choose(self.ptr(), logits.as_ptr(), logits.len(), &mut id, error)
        })?;
        Ok(id)
    }
}

impl Batch {
    pub fn create(model: &Model) -> Result<Self> {
        Self::made(model.keep().clone(), |out, error| unsafe { sys::finermoe_batch_create(model.ptr(), out, error) })
    }

    /// The caller keeps the generation as long as it is in the batch, which calls the closures of its session.
    pub fn add(&mut self, generation: &Generation) -> Result<()> {
        check(|error| unsafe { sys::finermoe_batch_add(self.ptr(), generation.ptr(), error) })
    }

    pub fn remove(&mut self, generation: &Generation) -> Result<()> {
        check(|error| unsafe { sys::finermoe_batch_remove(self.ptr(), generation.ptr(), error) })
    }

    pub fn step(&mut self, cancel: Option<&Cancel>) -> Result<usize> {
        let mut n_active = 0;
        check(|error| unsafe { sys::finermoe_batch_step(self.ptr(), pointer_to(cancel), &mut n_active, error) })?;
        Ok(n_active)
    }

    /// The tag of a member and its event. The caller, which has the members, lets none of them make another event
    /// meanwhile.
    pub fn next(&mut self, cancel: Option<&Cancel>) -> Result<(u64, Event)> {
        let mut tag = 0;
        let event = read(|event, error| unsafe {
            sys::finermoe_batch_next(self.ptr(), pointer_to(cancel), &mut tag, event, error)
        })?;
        Ok((tag, unsafe { Event::from_c(&event) }))
    }
}
