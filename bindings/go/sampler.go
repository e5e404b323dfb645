package finermoe

import "finermoe.example/finermoe/internal/low"

// Sampler is the choice of tokens alone, for logits that come from elsewhere: bias, penalties, bans, temperature and
// filters of some options, and a random stream. Calls wait for each other.
type Sampler struct{ object *object[low.Sampler] }

// NewSampler makes a sampler; without options it is greedy. The caller may close it.
func NewSampler(opts ...GenerateOption) (*Sampler, error) {
	setup, err := newGenerateSetup(nil, opts)
	if err != nil {
		return nil, err
	}
	defer setup.free()
	handle, err := create(func(out *low.Sampler) low.Error { return low.SamplerCreate(setup.options, out) })
	if err != nil {
		return nil, err
	}
	s := &Sampler{}
	s.object = newObject(s, &object[low.Sampler]{name: "sampler", sharing: waiting, handle: handle,
		frees: low.SamplerFree})
	return s, nil
}

// Close lets go of the sampler. A second call does nothing.
func (s *Sampler) Close() { s.object.close() }

// AcceptPrompt takes tokens of a prompt: the repetition penalty counts them.
func (s *Sampler) AcceptPrompt(ids []int32) error {
	return s.object.use(func(h low.Sampler) low.Error { return low.SamplerAcceptPrompt(h, ids) })
}

// Accept takes a token that was generated, chosen here or elsewhere. All penalties count it.
func (s *Sampler) Accept(id int32) error {
	return s.object.use(func(h low.Sampler) low.Error { return low.SamplerAccept(h, id) })
}

// Choose chooses a token of logits, [vocabulary]; it does not accept it.
func (s *Sampler) Choose(logits []float32) (id int32, err error) {
	out := new(int32)
	err = s.object.use(func(h low.Sampler) low.Error { return low.SamplerChoose(h, logits, out) })
	return *out, err
}
