package finermoe

import (
	"context"

	"finermoe.example/finermoe/internal/low"
)

// A WriterOption says how to write a model. [Upcycle], [Quantize] and [Synthesize] take it.
type WriterOption interface {
	UpcycleOption
	QuantizeOption
	applyWriter(*writerSetup) error
}

// An UpcycleOption says what upcycling makes of a dense FFN, or how to write.
type UpcycleOption interface{ applyUpcycle(*upcycleSetup) error }

// A QuantizeOption says what becomes of the matrices, or how to write.
type QuantizeOption interface{ applyQuantize(*quantizeSetup) error }

type writerSetup struct {
	options  low.WriterOptions
	progress *registration
}

func newWriterSetup() (*writerSetup, error) {
	options, err := create(low.WriterOptionsCreate)
	return &writerSetup{options: options}, err
}

func (s *writerSetup) free() { low.WriterOptionsFree(s.options) }

func (s *writerSetup) outcome() (any, error) {
	if s.progress == nil {
		return nil, nil
	}
	return s.progress.outcome()
}

// run writes until the context ends.
func (s *writerSetup) run(ctx context.Context, write func() low.Error) error {
	watch, err := watchContext(ctx)
	if err != nil {
		return err
	}
	defer watch.stop()
	if watch.cancel != 0 {
		if err := check(low.WriterOptionsSetCancel(s.options, watch.cancel)); err != nil {
			return err
		}
	}
	return watch.explain(settle(s, check(write())))
}

type writerOption func(*writerSetup) error

func (set writerOption) applyWriter(s *writerSetup) error     { return set(s) }
func (set writerOption) applyUpcycle(s *upcycleSetup) error   { return set(s.writer) }
func (set writerOption) applyQuantize(s *quantizeSetup) error { return set(s.writer) }

// ShardSize is the most bytes that a shard may hold; 5,000,000,000 by default.
func ShardSize(bytes uint64) WriterOption {
	return writerOption(func(s *writerSetup) error { return check(low.WriterOptionsSetShardSize(s.options, bytes)) })
}

// Overwrite replaces an existing model when the new one is whole. Otherwise every existing output is ErrFileExists.
func Overwrite(overwrite bool) WriterOption {
	return writerOption(func(s *writerSetup) error {
		return check(low.WriterOptionsSetOverwrite(s.options, number(overwrite)))
	})
}

// --- Upcycling ---

type upcycleSetup struct {
	options low.UpcycleOptions
	writer  *writerSetup
}

type preset string

func (preset) applyUpcycle(*upcycleSetup) error { return nil } // upcycling begins with it

// Preset names what upcycling begins with: "finermoe" (default), "c32a2", "s16a4", "drop-upcycling", "nvshard",
// "no-fg", "inter-fg" or "out-fg".
func Preset(name string) UpcycleOption { return preset(name) }

type upcycleOption func(low.UpcycleOptions) error

func (set upcycleOption) applyUpcycle(s *upcycleSetup) error { return set(s.options) }

func shape(granularityInter, expansionInter, granularityOutput, expansionOutput, topInter int) UpcycleOption {
	return upcycleOption(func(options low.UpcycleOptions) error {
		return check(low.UpcycleOptionsSetShape(options, granularityInter, expansionInter, granularityOutput,
			expansionOutput, topInter))
	})
}

// GranularityInter is G_I; 0 leaves the preset's value, as in the next four.
func GranularityInter(n int) UpcycleOption { return shape(n, 0, 0, 0, 0) }

// ExpansionInter is R_I.
func ExpansionInter(n int) UpcycleOption { return shape(0, n, 0, 0, 0) }

// GranularityOutput is G_O.
func GranularityOutput(n int) UpcycleOption { return shape(0, 0, n, 0, 0) }

// ExpansionOutput is R_O.
func ExpansionOutput(n int) UpcycleOption { return shape(0, 0, 0, n, 0) }

// TopInter is T_I.
func TopInter(n int) UpcycleOption { return shape(0, 0, 0, 0, n) }

// SharedExpert makes the dense FFN the shared expert.
func SharedExpert(shared bool) UpcycleOption {
	return upcycleOption(func(options low.UpcycleOptions) error {
		return check(low.UpcycleOptionsSetSharedExpert(options, number(shared)))
	})
}

func (c ConcatProj) applyUpcycle(s *upcycleSetup) error {
	return check(low.UpcycleOptionsSetConcatProj(s.options, int32(c)))
}

// SeparateRouter makes a second router for the output components.
func SeparateRouter(separate bool) UpcycleOption {
	return upcycleOption(func(options low.UpcycleOptions) error {
		return check(low.UpcycleOptionsSetSeparateRouter(options, number(separate)))
	})
}

// DownScale multiplies the experts' down matrices; 0 (default): G_I without a shared expert, else 1.
func DownScale(scale float64) UpcycleOption {
	return upcycleOption(func(options low.UpcycleOptions) error {
		return check(low.UpcycleOptionsSetDownScale(options, scale))
	})
}

// DropRatio, in [0, 1], is the share of each expert's intermediate indices that is redrawn.
func DropRatio(ratio float64) UpcycleOption {
	return upcycleOption(func(options low.UpcycleOptions) error {
		return check(low.UpcycleOptionsSetDropRatio(options, ratio))
	})
}

func (r RouterInit) applyUpcycle(s *upcycleSetup) error {
	return check(low.UpcycleOptionsSetRouterInit(s.options, int32(r)))
}

// Upcycle makes a Mixture-of-Experts checkpoint from a dense one by streaming; memory stays small. out is a
// directory, or a single file if it ends in ".safetensors". When the context ends it, no file is left behind.
func Upcycle(ctx context.Context, dense, out string, opts ...UpcycleOption) error {
	begin := ""
	for _, opt := range opts {
		if named, ok := opt.(preset); ok {
			begin = string(named)
		}
	}
	if err := checkPaths(dense, out, begin); err != nil {
		return err
	}
	options, err := create(func(out *low.UpcycleOptions) low.Error { return low.UpcycleOptionsCreate(begin, out) })
	if err != nil {
		return err
	}
	defer low.UpcycleOptionsFree(options)
	writer, err := newWriterSetup()
	if err != nil {
		return err
	}
	defer writer.free()
	setup := &upcycleSetup{options, writer}
	for _, opt := range opts {
		if err := opt.applyUpcycle(setup); err != nil {
			return err
		}
	}
	return writer.run(ctx, func() low.Error { return low.UpcycleRun(dense, out, options, writer.options) })
}

// --- Synthesizing, quantising ---

// Synthesize writes a random checkpoint of any shape. config is a config.json or a directory that holds one; dtype is
// the type of the weights, SourceDType the configuration's own.
func Synthesize(ctx context.Context, config, out string, dtype DType, opts ...WriterOption) error {
	if err := checkPaths(config, out); err != nil {
		return err
	}
	writer, err := newWriterSetup()
	if err != nil {
		return err
	}
	defer writer.free()
	for _, opt := range opts {
		if err := opt.applyWriter(writer); err != nil {
			return err
		}
	}
	return writer.run(ctx, func() low.Error { return low.SynthesizeRun(config, out, int32(dtype), writer.options) })
}

type quantizeSetup struct {
	options low.QuantizeOptions
	writer  *writerSetup
}

type override struct {
	pattern string
	dtype   DType
}

func (o override) applyQuantize(s *quantizeSetup) error {
	if err := checkPaths(o.pattern); err != nil {
		return err
	}
	return check(low.QuantizeOptionsAddOverride(s.options, o.pattern, int32(o.dtype)))
}

// Override gives the matrices whose names match a pattern (with * and ?) another type: Q8, Q4, or SourceDType to leave
// them as they are. The last pattern that matches counts.
func Override(pattern string, dtype DType) QuantizeOption { return override{pattern, dtype} }

// Quantize writes a quantised copy of a model by streaming; memory stays small. dtype, Q8 or Q4, is the type of all
// matrices but embeddings and head, which are Q8.
func Quantize(ctx context.Context, path, out string, dtype DType, opts ...QuantizeOption) error {
	if err := checkPaths(path, out); err != nil {
		return err
	}
	options, err := create(func(out *low.QuantizeOptions) low.Error {
		return low.QuantizeOptionsCreate(int32(dtype), out)
	})
	if err != nil {
		return err
	}
	defer low.QuantizeOptionsFree(options)
	writer, err := newWriterSetup()
	if err != nil {
		return err
	}
	defer writer.free()
	setup := &quantizeSetup{options, writer}
	for _, opt := range opts {
		if err := opt.applyQuantize(setup); err != nil {
			return err
		}
	}
	return writer.run(ctx, func() low.Error { return low.QuantizeRun(path, out, options, writer.options) })
}

// --- Verifying ---

// VerifiedFile is what a verification found in one file of a model.
type VerifiedFile struct {
	Name      string
	SHA256    string // 64 hexadecimal digits
	FirstBad  string // the first tensor that holds a NaN or infinity, or ""
	Size      uint64 // bytes
	NTensors  int    // 0 for files that hold none
	NNaN      uint64 // parameters, as the next
	NInfinite uint64
}

// Verify reads every file of a model once: structure, SHA-256, NaN and infinity. Bad values are a finding, not an
// error. hear may be nil.
func Verify(ctx context.Context, path string, hear ProgressFunc) ([]VerifiedFile, error) {
	if err := checkPaths(path); err != nil {
		return nil, err
	}
	watch, err := watchContext(ctx)
	if err != nil {
		return nil, err
	}
	defer watch.stop()
	heard := &writerSetup{}
	function, user := uintptr(0), uintptr(0)
	if hear != nil {
		heard.progress = register(&callback{progress: hear})
		function, user = progressFunction, heard.progress.user
	}
	verification, err := create(func(out *low.Verification) low.Error {
		return low.VerificationRun(path, function, user, watch.cancel, out)
	})
	defer low.VerificationFree(verification)
	if err = watch.explain(settle(heard, err)); err != nil {
		return nil, err
	}
	return readVerification(verification)
}

func readVerification(verification low.Verification) ([]VerifiedFile, error) {
	file := low.NewVerificationFile()
	defer low.DeleteVerificationFile(file)
	files := make([]VerifiedFile, low.VerificationCount(verification))
	for i := range files {
		if err := check(low.VerificationGetFile(verification, i, file)); err != nil {
			return nil, err
		}
		files[i] = VerifiedFile{
			Name:      file.GetName(),
			SHA256:    file.GetSha256(),
			FirstBad:  file.GetFirstBad(),
			Size:      file.GetSize(),
			NTensors:  file.GetNTensors(),
			NNaN:      file.GetNNan(),
			NInfinite: file.GetNInfinite(),
		}
	}
	return files, nil
}
