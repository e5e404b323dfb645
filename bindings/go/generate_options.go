package finermoe

import "finermoe.example/finermoe/internal/low"

// A GenerateOption says how a request chooses its tokens and when it ends. Requests begin with the defaults of the
// model's generation_config.json.
type GenerateOption interface{ applyGenerate(*generateSetup) error }

type generateSetup struct {
	options low.GenerationOptions // 0: the model's defaults
	keeps   []keeper              // the model that drafts, if any
	flags   uint32
	failed  error // of the call that used the options, where it used another object too
}

// newGenerateSetup applies options to a model's defaults, or to neutral ones where model is nil.
func newGenerateSetup(model *Model, opts []GenerateOption) (*generateSetup, error) {
	setup := &generateSetup{}
	if err := setup.begin(model); err != nil {
		return nil, err
	}
	for _, opt := range opts {
		if err := opt.applyGenerate(setup); err != nil {
			setup.free()
			return nil, err
		}
	}
	return setup, nil
}

func (s *generateSetup) begin(model *Model) (err error) {
	if model == nil {
		s.options, err = create(func(out *low.GenerationOptions) low.Error {
			return low.GenerationOptionsCreate(0, out)
		})
		return err
	}
	return model.object.use(func(h low.Model) low.Error {
		out := new(low.GenerationOptions)
		failure := low.GenerationOptionsCreate(h, out)
		s.options = *out
		return failure
	})
}

func (s *generateSetup) free() { low.GenerationOptionsFree(s.options) }

// GenerationOptions is options that were put together once, for many requests. It is a [GenerateOption] itself: put it
// first, since it takes the place of what stands before it. It never changes, and any number of goroutines can use it.
type GenerationOptions struct {
	object *object[low.GenerationOptions]
}

// NewGenerationOptions begins with the model's defaults.
func (m *Model) NewGenerationOptions(opts ...GenerateOption) (*GenerationOptions, error) {
	return newGenerationOptions(m, opts)
}

// NewGenerationOptions begins with neutral options: greedy, no penalties, no stop tokens, no limit.
func NewGenerationOptions(opts ...GenerateOption) (*GenerationOptions, error) {
	return newGenerationOptions(nil, opts)
}

func newGenerationOptions(model *Model, opts []GenerateOption) (*GenerationOptions, error) {
	setup, err := newGenerateSetup(model, opts)
	if err != nil {
		return nil, err
	}
	o := &GenerationOptions{}
	o.object = newObject(o, &object[low.GenerationOptions]{name: "options", handle: setup.options,
		frees: low.GenerationOptionsFree, keeps: setup.keeps})
	return o, nil
}

// Close lets go of the options. Requests that were made with them go on. A second call does nothing.
func (o *GenerationOptions) Close() { o.object.close() }

func (o *GenerationOptions) applyGenerate(s *generateSetup) error {
	return o.object.use(func(h low.GenerationOptions) low.Error {
		out := new(low.GenerationOptions)
		failure := low.GenerationOptionsCopy(h, out)
		if failure == 0 {
			low.GenerationOptionsFree(s.options)
			s.options, s.keeps = *out, o.object.keeps
		}
		return failure
	})
}

// GenerationOptionsInfo is what options say.
type GenerationOptionsInfo struct {
	IgnoreEOS         bool
	MaxTokens         int
	MinTokens         int
	Temperature       float64
	TopK              int
	TopP              float64
	MinP              float64
	TypicalP          float64
	RepetitionPenalty float64
	FrequencyPenalty  float64
	PresencePenalty   float64
	Seed              uint64
	NStopTokens       int
}

// Info is what the options say.
func (o *GenerationOptions) Info() (GenerationOptionsInfo, error) {
	info := low.NewGenerationOptionsInfo()
	defer low.DeleteGenerationOptionsInfo(info)
	err := o.object.use(func(h low.GenerationOptions) low.Error { return low.GenerationOptionsGetInfo(h, info) })
	if err != nil {
		return GenerationOptionsInfo{}, err
	}
	return GenerationOptionsInfo{
		IgnoreEOS:         info.GetIgnoreEos() != 0,
		MaxTokens:         info.GetMaxTokens(),
		MinTokens:         info.GetMinTokens(),
		Temperature:       info.GetTemperature(),
		TopK:              info.GetTopK(),
		TopP:              info.GetTopP(),
		MinP:              info.GetMinP(),
		TypicalP:          info.GetTypicalP(),
		RepetitionPenalty: info.GetRepetitionPenalty(),
		FrequencyPenalty:  info.GetFrequencyPenalty(),
		PresencePenalty:   info.GetPresencePenalty(),
		Seed:              info.GetSeed(),
		NStopTokens:       info.GetNStopTokens(),
	}, nil
}

type generateOption func(low.GenerationOptions) error

func (set generateOption) applyGenerate(s *generateSetup) error { return set(s.options) }

// setting is an option with one value.
func setting[T any](set func(low.GenerationOptions, T) low.Error, value T) GenerateOption {
	return generateOption(func(options low.GenerationOptions) error { return check(set(options, value)) })
}

// counting is an option with a count.
func counting(name string, set func(low.GenerationOptions, int) low.Error, n int) GenerateOption {
	return generateOption(func(options low.GenerationOptions) error {
		if err := checkCount(name, n); err != nil {
			return err
		}
		return check(set(options, n))
	})
}

// listing is an option with values that are added one by one.
func listing[T any](add func(low.GenerationOptions, T) low.Error, values []T) GenerateOption {
	return generateOption(func(options low.GenerationOptions) error {
		for _, value := range values {
			if err := check(add(options, value)); err != nil {
				return err
			}
		}
		return nil
	})
}

// MaxTokens is the most tokens to generate; 0: until a stop or the end of the context.
func MaxTokens(n int) GenerateOption {
	return counting("max_tokens", low.GenerationOptionsSetMaxTokens, n)
}

// MinTokens is the number of tokens before which nothing stops the request.
func MinTokens(n int) GenerateOption {
	return counting("min_tokens", low.GenerationOptionsSetMinTokens, n)
}

// Temperature divides the logits; 0: greedy.
func Temperature(temperature float64) GenerateOption {
	return setting(low.GenerationOptionsSetTemperature, temperature)
}

// TopK keeps the k largest logits; 0: all.
func TopK(k int) GenerateOption { return counting("top_k", low.GenerationOptionsSetTopK, k) }

// TopP, in (0, 1], keeps the smallest set whose probability reaches p; 1: all.
func TopP(p float64) GenerateOption { return setting(low.GenerationOptionsSetTopP, p) }

// MinP, in [0, 1), drops what is less likely than p times the likeliest; 0: nothing.
func MinP(p float64) GenerateOption { return setting(low.GenerationOptionsSetMinP, p) }

// TypicalP, in (0, 1], is locally typical sampling; 1: off.
func TypicalP(p float64) GenerateOption { return setting(low.GenerationOptionsSetTypicalP, p) }

// RepetitionPenalty divides the logits of tokens that stand in prompt or output; 1: off.
func RepetitionPenalty(penalty float64) GenerateOption {
	return setting(low.GenerationOptionsSetRepetitionPenalty, penalty)
}

// FrequencyPenalty is subtracted from a token's logit for each time it was generated; 0: off.
func FrequencyPenalty(penalty float64) GenerateOption {
	return setting(low.GenerationOptionsSetFrequencyPenalty, penalty)
}

// PresencePenalty is subtracted once from the logits of tokens that were generated; 0: off.
func PresencePenalty(penalty float64) GenerateOption {
	return setting(low.GenerationOptionsSetPresencePenalty, penalty)
}

// LogitBias is added to a token's logit; negative infinity bans the token.
func LogitBias(id int32, bias float32) GenerateOption {
	return generateOption(func(options low.GenerationOptions) error {
		return check(low.GenerationOptionsAddLogitBias(options, id, bias))
	})
}

// BannedTokens are never chosen.
func BannedTokens(ids ...int32) GenerateOption {
	return listing(low.GenerationOptionsAddBannedToken, ids)
}

// StopTokens end the request when one is chosen.
func StopTokens(ids ...int32) GenerateOption { return listing(low.GenerationOptionsAddStopToken, ids) }

// ClearStopTokens forgets all stop tokens before it, those of generation_config.json too.
func ClearStopTokens() GenerateOption {
	return generateOption(func(options low.GenerationOptions) error {
		return check(low.GenerationOptionsClearStopTokens(options))
	})
}

// Stop ends the text before the first occurrence of one of these strings.
func Stop(texts ...string) GenerateOption { return listing(low.GenerationOptionsAddStopString, texts) }

// IgnoreEOS goes on behind stop tokens.
func IgnoreEOS(ignore bool) GenerateOption {
	return setting(low.GenerationOptionsSetIgnoreEos, number(ignore))
}

// TopLogprobs is the number of alternatives that are reported with each token.
func TopLogprobs(n int) GenerateOption {
	return counting("top_logprobs", low.GenerationOptionsSetTopLogprobs, n)
}

// Lookup drafts up to n tokens, at most 64, for one pass: what followed the text's last tokens where they stood before.
// The tokens are those that the request has without, sooner where the text repeats itself; 0: none.
func Lookup(n int) GenerateOption { return counting("n_draft", low.GenerationOptionsSetLookup, n) }

type draft struct {
	model *Model
	n     int
}

func (d draft) applyGenerate(s *generateSetup) error {
	if err := checkCount("n_draft", d.n); err != nil {
		return err
	}
	s.keeps = []keeper{d.model.object}
	return d.model.object.use(func(h low.Model) low.Error { return low.GenerationOptionsSetDraft(s.options, h, d.n) })
}

// Draft drafts up to n tokens, at most 64, for one pass with another model of the same vocabulary, such as the dense one
// that an upcycled model came from. The tokens are those that the request has without, sooner; 0: none.
func Draft(model *Model, n int) GenerateOption { return draft{model, n} }

func (f TextFlag) applyGenerate(s *generateSetup) error {
	s.flags |= uint32(f &^ ShowSpecial)
	if f&ShowSpecial == 0 {
		return nil
	}
	return check(low.GenerationOptionsSetShowSpecial(s.options, 1))
}

// seed is an option of requests and of writers.
type seed uint64

func (n seed) applyGenerate(s *generateSetup) error {
	return check(low.GenerationOptionsSetSeed(s.options, uint64(n)))
}

func (n seed) applyWriter(s *writerSetup) error {
	return check(low.WriterOptionsSetSeed(s.options, uint64(n)))
}

func (n seed) applyUpcycle(s *upcycleSetup) error   { return n.applyWriter(s.writer) }
func (n seed) applyQuantize(s *quantizeSetup) error { return n.applyWriter(s.writer) }

// Seed is the seed of a request's random stream, the same on every platform, or of every random draw of a writer; 0 by
// default.
func Seed(n uint64) interface {
	GenerateOption
	WriterOption
} {
	return seed(n)
}
