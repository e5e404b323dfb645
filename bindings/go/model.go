package finermoe

import (
	"context"
	"os"
	"runtime"
	"sync"

	"finermoe.example/finermoe/internal/low"
)

// Model is an open checkpoint. It can be used by any number of goroutines at once.
type Model struct {
	object *object[low.Model]

	mutex     sync.Mutex
	tokenizer *Tokenizer // once it was asked for
}

// Open opens a checkpoint: a Hugging Face directory or a single .safetensors file. It reads headers only; weights are
// read when they are first used. What is wrong with a file that the model can do without (tokenizer, chat template,
// generation_config.json) is the error of the calls that need it.
//
// The caller closes the model.
func Open(path string, opts ...ModelOption) (*Model, error) {
	if err := checkPaths(path); err != nil {
		return nil, err
	}
	return open(nil, opts, func(options low.ModelOptions, out *low.Model) low.Error {
		return low.ModelOpen(path, options, out)
	})
}

// OpenFile opens a checkpoint from an open directory or single-file model. The caller keeps the file, and can close it
// at once.
func OpenFile(file *os.File, opts ...ModelOption) (*Model, error) {
	connection, err := file.SyscallConn() // keeps the file open during the call, and as it is
	if err != nil {
		return nil, err
	}
	var model *Model
	var failed error
	err = connection.Control(func(fd uintptr) {
		model, failed = open(nil, opts, func(options low.ModelOptions, out *low.Model) low.Error {
			return low.ModelOpenFd(int(fd), options, out)
		})
	})
	if err != nil { // only of a file that was closed meanwhile
		return nil, &os.PathError{Op: "open", Path: file.Name(), Err: os.ErrClosed}
	}
	return model, failed
}

// OpenBytes opens a single-file model from memory. The bytes are not copied (unless [CopyWeights] asks for it): they
// must not change until the model and all that was made from it are closed or unreachable, and stay in memory that
// long.
func OpenBytes(data []byte, opts ...ModelOption) (*Model, error) {
	return open([]keeper{pin(data)}, opts, func(options low.ModelOptions, out *low.Model) low.Error {
		return low.ModelOpenMemory(data, options, out)
	})
}

func open(keeps []keeper, opts []ModelOption, call func(low.ModelOptions, *low.Model) low.Error) (*Model, error) {
	setup, err := newModelSetup(opts...)
	if err != nil {
		return nil, err
	}
	defer setup.free()
	handle, err := create(func(out *low.Model) low.Error { return call(setup.options, out) })
	if setup.watch != nil {
		err = setup.watch.explain(err)
	}
	if err != nil {
		return nil, settle(setup, err)
	}
	m := &Model{}
	m.object = newObject(m, &object[low.Model]{name: "model", handle: handle, closes: low.ModelClose,
		frees: low.ModelFree, keeps: append(keeps, setup.keeps...)})
	_ = settle(setup, nil) // a callback's panic, after the model has its owner
	return m, nil
}

// Close ends what runs on the model's sessions, which answer ErrClosed from then on. A second call does nothing.
func (m *Model) Close() { m.object.close() }

// Config is the model's configuration. The caller may close it.
func (m *Model) Config() (*Config, error) {
	var config *Config
	var failed error
	err := m.object.use(func(h low.Model) low.Error {
		config, failed = newConfig([]keeper{m.object}, func(out *low.Config) low.Error { return low.ConfigOpenModel(h, out) })
		return 0
	})
	if err == nil {
		err = failed
	}
	return config, err
}

// Runtime is the runtime that the model computes on. The caller may close it.
func (m *Model) Runtime() (*Runtime, error) {
	var handle low.Runtime
	err := m.object.use(func(h low.Model) (failure low.Error) {
		out := new(low.Runtime)
		failure = low.RuntimeOpenModel(h, out)
		handle = *out
		return failure
	})
	if err != nil {
		return nil, err
	}
	return wrapRuntime(handle, []keeper{m.object}), nil
}

// Tokenizer is the model's own tokenizer, read at the first call. Where the model has none that can be used, every
// method of it says so (ErrNoTokenizer, or what is wrong with its files). It outlives the model.
func (m *Model) Tokenizer() *Tokenizer {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.tokenizer == nil || m.tokenizer.failed != nil {
		m.tokenizer = tokenizerOf(m)
	}
	return m.tokenizer
}

// ExpertSimilarity is the mean cosine similarity over all pairs of routed experts of one layer, each expert its
// matrices flattened. layer is the model's own index.
func (m *Model) ExpertSimilarity(ctx context.Context, layer int) (float64, error) {
	similarity := new(float64)
	err := m.object.useContext(ctx, func(h low.Model, cancel low.Cancel) low.Error {
		return low.ModelExpertSimilarity(h, layer, cancel, similarity)
	})
	return *similarity, err
}

// ExpertCacheInfo is what became of the experts that a model fetches; all 0 if it fetches none.
type ExpertCacheInfo struct {
	Bytes   uint64 // of the device
	NSlots  uint64 // experts that it holds
	NHits   uint64 // chosen experts that were there, each counted once per layer and pass, since the model was opened
	NMisses uint64 // those that were copied
}

// ExpertCache is what became of the experts that the model fetches. It may be called while sessions compute.
func (m *Model) ExpertCache() (ExpertCacheInfo, error) {
	info := low.NewExpertCacheInfo()
	defer low.DeleteExpertCacheInfo(info)
	if err := m.object.use(func(h low.Model) low.Error { return low.ModelGetExpertCache(h, info) }); err != nil {
		return ExpertCacheInfo{}, err
	}
	return ExpertCacheInfo{info.GetBytes(), info.GetNSlots(), info.GetNHits(), info.GetNMisses()}, nil
}

// pinned is memory that C reads as long as any object keeps it.
type pinned struct{ data []byte }

func pin(data []byte) *pinned {
	p := &pinned{data}
	if len(data) > 0 {
		pinner := new(runtime.Pinner)
		pinner.Pin(&data[0])
		runtime.AddCleanup(p, func(pinner *runtime.Pinner) { pinner.Unpin() }, pinner)
	}
	return p
}

func (p *pinned) outcome() (any, error) { return nil, nil }
