package finermoe

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

const (
	modelPath = "../../examples/models/tiny-wordnet-finermoe"
	densePath = "../../examples/models/tiny-wordnet-dense"
)

var define = []Message{{Role: "user", Content: `Define the noun "lighthouse".`}}

const definition = "A tower with a light that gives warning of shoals to passing ships."

func openModel(t testing.TB, opts ...ModelOption) *Model {
	t.Helper()
	model, err := Open(modelPath, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Close)
	return model
}

func newSession(t testing.TB, model *Model, opts ...SessionOption) *Session {
	t.Helper()
	session, err := model.NewSession(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	return session
}

// longPrompt is ids that take a good while to compute in small chunks.
func longPrompt(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i % 4000)
	}
	return ids
}

func fails(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: expected %v, found %v", what, want, err)
	}
}

func succeeds(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// eventually waits for what the garbage collector brings about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 200 {
		runtime.GC()
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%s: not within a second", what)
}

// singleFile is the bytes of the model as one file.
func singleFile(t *testing.T) (path string, data []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "m.safetensors")
	if err := Quantize(t.Context(), modelPath, path, Q8); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, data
}
