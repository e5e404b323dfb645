package finermoe

import "testing"

// What Go adds to an event: a finished request answers at once.
func BenchmarkEvent(b *testing.B) {
	session := newSession(b, openModel(b))
	generation := must(session.NewGeneration("A ship", MaxTokens(1)))
	defer generation.Close()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = generation.next(0)
	}
}

func BenchmarkLogits(b *testing.B) {
	session := newSession(b, openModel(b))
	logits := must(session.Append(b.Context(), []int32{1}, LogitsLast))[0]
	b.ReportAllocs()
	for b.Loop() {
		_ = session.ReadLogits(0, logits)
	}
}
