package finermoe

import "finermoe.example/finermoe/internal/low"

// Tokenizer turns text into ids and back: byte-level BPE, equal to Hugging Face's. It can be used by any number of
// goroutines at once, without a model too.
type Tokenizer struct {
	object *object[low.Tokenizer]
	failed error // why there is no object, for the tokenizer of a model
}

// OpenTokenizer reads a directory with tokenizer.json (or vocab.json and merges.txt), a tokenizer.json, or the
// tokenizer of a single-file model. The caller may close it.
func OpenTokenizer(path string) (*Tokenizer, error) {
	if err := checkPaths(path); err != nil {
		return nil, err
	}
	return newTokenizer(nil, func(out *low.Tokenizer) low.Error { return low.TokenizerOpen(path, out) })
}

// ParseTokenizer reads the text of a tokenizer.json, and of a tokenizer_config.json, which may be nil.
func ParseTokenizer(json, configJSON []byte) (*Tokenizer, error) {
	return newTokenizer(nil, func(out *low.Tokenizer) low.Error {
		return low.TokenizerOpenMemory(string(json), string(configJSON), out)
	})
}

func tokenizerOf(m *Model) *Tokenizer {
	var tokenizer *Tokenizer
	var failed error
	err := m.object.use(func(h low.Model) low.Error {
		tokenizer, failed = newTokenizer([]keeper{m.object}, func(out *low.Tokenizer) low.Error {
			return low.TokenizerOpenModel(h, out)
		})
		return 0
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return &Tokenizer{failed: err}
	}
	return tokenizer
}

func newTokenizer(keeps []keeper, open func(*low.Tokenizer) low.Error) (*Tokenizer, error) {
	handle, err := create(open)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{}
	t.object = newObject(t, &object[low.Tokenizer]{name: "tokenizer", handle: handle, frees: low.TokenizerFree,
		keeps: keeps})
	return t, nil
}

func (t *Tokenizer) use(call func(low.Tokenizer) low.Error) error {
	if t.failed != nil {
		return t.failed
	}
	return t.object.use(call)
}

// Close lets go of the tokenizer. A second call does nothing.
func (t *Tokenizer) Close() {
	if t.object != nil {
		t.object.close()
	}
}

// TokenizerInfo describes a tokenizer. Ids are -1 where there is none.
type TokenizerInfo struct {
	BOSID       int32
	EOSID       int32
	PadID       int32
	VocabSize   int // largest id with a token, plus one
	NAdded      int // added tokens, special or not
	HasChat     bool
	EndOfTurnID int32 // the token with which the chat template ends a message
}

// Info describes the tokenizer.
func (t *Tokenizer) Info() (TokenizerInfo, error) {
	info := low.NewTokenizerInfo()
	defer low.DeleteTokenizerInfo(info)
	if err := t.use(func(h low.Tokenizer) low.Error { return low.TokenizerGetInfo(h, info) }); err != nil {
		return TokenizerInfo{}, err
	}
	return TokenizerInfo{
		BOSID:       info.GetBosId(),
		EOSID:       info.GetEosId(),
		PadID:       info.GetPadId(),
		VocabSize:   info.GetVocabSize(),
		NAdded:      info.GetNAdded(),
		HasChat:     info.GetHasChat() != 0,
		EndOfTurnID: info.GetEndOfTurnId(),
	}, nil
}

// Encode turns a text into ids. Invalid UTF-8 becomes U+FFFD, one per maximal subpart.
//
// Of the flags, ParseSpecial and NoSpecialTokens mean something here.
func (t *Tokenizer) Encode(text string, flags ...TextFlag) (ids []int32, err error) {
	err = t.use(func(h low.Tokenizer) (failure low.Error) {
		ids, failure = fill(len(text)/2+8, func(buffer []int32, capacity int, needed *int) low.Error {
			return low.TokenizerEncode(h, text, flagsOf(flags), buffer, nil, capacity, needed)
		})
		return failure
	})
	return ids, err
}

// Offset is where a token stands in a text: the bytes [Begin, End); 0 and 0 for one that the tokenizer puts around it.
type Offset struct{ Begin, End int }

// EncodeOffsets is Encode with the place of each token in the text.
func (t *Tokenizer) EncodeOffsets(text string, flags ...TextFlag) (ids []int32, offsets []Offset, err error) {
	var pairs []uint64
	err = t.use(func(h low.Tokenizer) (failure low.Error) {
		ids, failure = fill(len(text)/2+8, func(buffer []int32, capacity int, needed *int) low.Error {
			pairs = make([]uint64, 2*capacity)
			return low.TokenizerEncode(h, text, flagsOf(flags), buffer, pairs, capacity, needed)
		})
		return failure
	})
	if err != nil {
		return nil, nil, err
	}
	offsets = make([]Offset, len(ids))
	for i := range offsets {
		offsets[i] = Offset{int(pairs[2*i]), int(pairs[2*i+1])}
	}
	return ids, offsets, nil
}

// Count is how many ids Encode would give.
func (t *Tokenizer) Count(text string, flags ...TextFlag) (int, error) {
	count := new(int)
	err := t.use(func(h low.Tokenizer) low.Error { return low.TokenizerCount(h, text, flagsOf(flags), count) })
	return *count, err
}

// Decode turns ids into text. Ids without a token give nothing; bytes that are not UTF-8 give U+FFFD.
//
// Of the flags, ShowSpecial means something here.
func (t *Tokenizer) Decode(ids []int32, flags ...TextFlag) (string, error) {
	var text []byte
	err := t.use(func(h low.Tokenizer) (failure low.Error) {
		text, failure = fill(8*len(ids), func(buffer []byte, capacity int, needed *int) low.Error {
			return low.TokenizerDecode(h, ids, flagsOf(flags), buffer, capacity, needed)
		})
		return failure
	})
	return string(text), err
}

// Token is the bytes of one token, which need not be whole UTF-8 characters, and its kind.
func (t *Tokenizer) Token(id int32) (bytes []byte, kind TokenKind, err error) {
	number := new(int32)
	err = t.use(func(h low.Tokenizer) (failure low.Error) {
		bytes, failure = fill(64, func(buffer []byte, capacity int, needed *int) low.Error {
			return low.TokenizerToken(h, id, buffer, capacity, needed, number)
		})
		return failure
	})
	return bytes, TokenKind(*number), err
}

// Find is the id of the token with exactly these bytes; found is false where there is none.
func (t *Tokenizer) Find(bytes []byte) (id int32, found bool, err error) {
	out := new(int32)
	err = t.use(func(h low.Tokenizer) low.Error { return low.TokenizerFind(h, bytes, out) })
	return *out, err == nil && *out >= 0, err
}

// Decoder turns ids into text as they come, never into a part of a character.
type Decoder struct{ object *object[low.Decoder] }

// NewDecoder makes a decoder. Of the flags, ShowSpecial means something here.
func (t *Tokenizer) NewDecoder(flags ...TextFlag) (*Decoder, error) {
	var handle low.Decoder
	err := t.use(func(h low.Tokenizer) low.Error {
		out := new(low.Decoder)
		failure := low.DecoderCreate(h, flagsOf(flags), out)
		handle = *out
		return failure
	})
	if err != nil {
		return nil, err
	}
	d := &Decoder{}
	d.object = newObject(d, &object[low.Decoder]{name: "decoder", sharing: waiting, handle: handle,
		frees: low.DecoderFree, keeps: []keeper{t.object}})
	return d, nil
}

// Close lets go of the decoder. A second call does nothing.
func (d *Decoder) Close() { d.object.close() }

// Push takes one id and gives the text that became complete by it, often none.
func (d *Decoder) Push(id int32) (string, error) {
	return d.text(func(h low.Decoder, buffer []byte, capacity int, needed *int) low.Error {
		return low.DecoderPush(h, id, buffer, capacity, needed)
	})
}

// Flush is the end: an unfinished character comes out as U+FFFD, and the decoder begins anew.
func (d *Decoder) Flush() (string, error) { return d.text(low.DecoderFlush) }

func (d *Decoder) text(call func(h low.Decoder, buffer []byte, capacity int, needed *int) low.Error) (string, error) {
	var text []byte
	err := d.object.use(func(h low.Decoder) (failure low.Error) {
		text, failure = fill(64, func(buffer []byte, capacity int, needed *int) low.Error {
			return call(h, buffer, capacity, needed)
		})
		return failure
	})
	return string(text), err
}
