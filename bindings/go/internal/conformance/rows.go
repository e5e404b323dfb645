package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"

	"finermoe.example/finermoe"
)

// request is what a generation is asked for.
type request struct {
	Prompt          text               `json:"prompt"`
	PromptUTF16     []uint16           `json:"prompt_utf16"`
	IDs             []int32            `json:"ids"`
	Messages        []finermoe.Message `json:"messages"`
	Options         options            `json:"options"`
	ParseSpecial    bool               `json:"parse_special"`
	NoSpecialTokens bool               `json:"no_special_tokens"`
	ContinueLast    bool               `json:"continue_last"`
}

// text is a string, or, where a kind of rows has ids by the same name, a list.
type text struct {
	string
	ids []int32
}

func (t *text) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte("[")) {
		return json.Unmarshal(data, &t.ids)
	}
	return json.Unmarshal(data, &t.string)
}

// row is one behaviour with its inputs and the result expected. README.md says which kind has which fields.
type row struct {
	request
	Name   string                     `json:"name"`
	Kind   string                     `json:"kind"`
	Model  string                     `json:"model"`
	Shape  string                     `json:"shape"`
	Expect map[string]json.RawMessage `json:"expect"`

	Text      string          `json:"text"`
	TextUTF16 []uint16        `json:"text_utf16"`
	Times     int             `json:"times"`
	Bytes     json.RawMessage `json:"bytes"` // in hexadecimal, or a list of such; for a memory limit a number
	Edits     []step          `json:"edits"`
	Steps     []step          `json:"steps"`

	ShowSpecial        bool `json:"show_special"`
	NoGenerationPrompt bool `json:"no_generation_prompt"`

	Sessions      int    `json:"sessions"`
	Threads       int    `json:"threads"`
	ContextLength int    `json:"context_length"`
	Chunk         int    `json:"chunk"`
	KVDType       string `json:"kv_dtype"`
	Precision     string `json:"precision"`
	MemoryLimit   uint64 `json:"memory_limit"`
	Profile       bool   `json:"profile"`
	Layer         int    `json:"layer"`
	MoELayer      int    `json:"moe_layer"`

	Keep    json.RawMessage `json:"keep"` // "last", "all" or rows
	Rows    []int           `json:"rows"`
	Columns []int           `json:"columns"`
	Only    bool            `json:"only"`

	Where      string    `json:"where"`
	Object     string    `json:"object"`
	Models     []string  `json:"models"`
	Request    request   `json:"request"`
	After      int       `json:"after"`
	Insert     []int32   `json:"insert"`
	More       string    `json:"more"`
	Logits     []float32 `json:"logits"`
	N          int       `json:"n"`
	Members    []member  `json:"members"`
	CloseAfter int       `json:"close_after"`
	Closes     uint64    `json:"closes"`

	Draft  json.RawMessage `json:"draft"` // of a request that is resumed
	Do     string          `json:"do"`
	Path   string          `json:"path"`
	JSON   string          `json:"json"`
	Length int             `json:"length"`
	Begin  int             `json:"begin"`
	End    int             `json:"end"`
	Row    int             `json:"row"`
	Option string          `json:"option"`
	Value  json.RawMessage `json:"value"`
	Device string          `json:"device"`
	Role   string          `json:"role"`
	GI     int             `json:"g_i"`

	Preset    string      `json:"preset"`
	Seed      uint64      `json:"seed"`
	DType     string      `json:"dtype"`
	Overrides [][2]string `json:"overrides"`
}

// member is a request in a batch.
type member struct {
	request
	Tag        uint64 `json:"tag"`
	JoinAfter  int    `json:"join_after"`
	LeaveAfter *int   `json:"leave_after"`
}

// step is a list: what to do, and with what.
type step []json.RawMessage

func (s step) get(i int, value any) error {
	if i >= len(s) {
		return fmt.Errorf("a step of %d parts", len(s))
	}
	return json.Unmarshal(s[i], value)
}

// word, number and ids are parts of a step that the rows are known to have.
func (s step) word(i int) (word string)  { _ = s.get(i, &word); return word }
func (s step) number(i int) (number int) { _ = s.get(i, &number); return number }
func (s step) ids(i int) (ids []int32)   { _ = s.get(i, &ids); return ids }

// input is the row's text; UTF-16 becomes UTF-8 as Go does it, a lone surrogate U+FFFD.
func (line *row) input() string {
	if line.TextUTF16 != nil {
		return string(utf16.Decode(line.TextUTF16))
	}
	return line.Text
}

// hexadecimal is the row's bytes.
func (line *row) hexadecimal() ([]byte, error) {
	var digits string
	if err := json.Unmarshal(line.Bytes, &digits); err != nil {
		return nil, err
	}
	return hex.DecodeString(digits)
}

func (r *request) flags() (flags []finermoe.TextFlag) {
	for flag, set := range map[finermoe.TextFlag]bool{
		finermoe.ParseSpecial: r.ParseSpecial, finermoe.NoSpecialTokens: r.NoSpecialTokens,
		finermoe.ContinueLast: r.ContinueLast,
	} {
		if set {
			flags = append(flags, flag)
		}
	}
	return flags
}

func (line *row) sessionOptions() (opts []finermoe.SessionOption) {
	if line.ContextLength > 0 {
		opts = append(opts, finermoe.ContextLength(line.ContextLength))
	}
	if line.Chunk > 0 {
		opts = append(opts, finermoe.Chunk(line.Chunk))
	}
	if line.KVDType != "" {
		opts = append(opts, finermoe.KVDType(dtypes[line.KVDType]))
	}
	if line.Precision == "fast" {
		opts = append(opts, finermoe.PrecisionFast)
	}
	return opts
}

var dtypes = map[string]finermoe.DType{
	"f32": finermoe.F32, "f16": finermoe.F16, "bf16": finermoe.BF16, "q8": finermoe.Q8, "q4": finermoe.Q4,
	"source": finermoe.SourceDType,
}

// options are those of a generation, by the names of finermoe_generation_options_set_….
type options map[string]json.RawMessage

// makers turn the value of an option into options of the package.
var makers = map[string]func(json.RawMessage) ([]finermoe.GenerateOption, error){
	"max_tokens":         maker(finermoe.MaxTokens),
	"min_tokens":         maker(finermoe.MinTokens),
	"temperature":        maker(finermoe.Temperature),
	"top_k":              maker(finermoe.TopK),
	"top_p":              maker(finermoe.TopP),
	"min_p":              maker(finermoe.MinP),
	"typical_p":          maker(finermoe.TypicalP),
	"repetition_penalty": maker(finermoe.RepetitionPenalty),
	"frequency_penalty":  maker(finermoe.FrequencyPenalty),
	"presence_penalty":   maker(finermoe.PresencePenalty),
	"seed":               maker(func(n uint64) finermoe.GenerateOption { return finermoe.Seed(n) }),
	"ignore_eos":         maker(finermoe.IgnoreEOS),
	"top_logprobs":       maker(finermoe.TopLogprobs),
	"show_special":       maker(func(bool) finermoe.GenerateOption { return finermoe.ShowSpecial }),
	"lookup":             maker(finermoe.Lookup),
	"draft":              draft,
	"clear_stop_tokens":  maker(func(bool) finermoe.GenerateOption { return finermoe.ClearStopTokens() }),
	"banned_tokens":      maker(func(ids []int32) finermoe.GenerateOption { return finermoe.BannedTokens(ids...) }),
	"stop_tokens":        maker(func(ids []int32) finermoe.GenerateOption { return finermoe.StopTokens(ids...) }),
	"stop":               maker(func(texts []string) finermoe.GenerateOption { return finermoe.Stop(texts...) }),
	"logit_bias":         logitBias,
}

func maker[T any](option func(T) finermoe.GenerateOption) func(json.RawMessage) ([]finermoe.GenerateOption, error) {
	return func(raw json.RawMessage) ([]finermoe.GenerateOption, error) {
		var value T
		err := json.Unmarshal(raw, &value)
		return []finermoe.GenerateOption{option(value)}, err
	}
}

// draft turns the folder of a model and a count into an option.
func draft(raw json.RawMessage) ([]finermoe.GenerateOption, error) {
	model, n, err := draftModel(raw)
	if err != nil {
		return nil, err
	}
	return []finermoe.GenerateOption{finermoe.Draft(model, n)}, nil
}

func draftModel(raw json.RawMessage) (*finermoe.Model, int, error) {
	var folder string
	var n int
	if err := json.Unmarshal(raw, &[]any{&folder, &n}); err != nil {
		return nil, 0, err
	}
	model, err := finermoe.Open(examplePath(folder), finermoe.Threads(2))
	return model, n, err
}

func logitBias(raw json.RawMessage) (opts []finermoe.GenerateOption, err error) {
	var pairs [][2]float64
	err = json.Unmarshal(raw, &pairs)
	for _, pair := range pairs {
		opts = append(opts, finermoe.LogitBias(int32(pair[0]), float32(pair[1])))
	}
	return opts, err
}

// list is the options of the package; those that clear come first.
func (o options) list() (opts []finermoe.GenerateOption, err error) {
	names := slices.Sorted(maps.Keys(o)) // "clear_stop_tokens" stands before "stop_tokens"
	for _, name := range names {
		make, known := makers[name]
		if !known {
			return nil, fmt.Errorf("no such option: %s", name)
		}
		made, err := make(o[name])
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", name, err)
		}
		opts = append(opts, made...)
	}
	return opts, nil
}

// start makes the request on a session. The caller closes it.
func (r *request) start(session *finermoe.Session) (*finermoe.Generation, error) {
	opts, err := r.Options.list()
	if err != nil {
		return nil, err
	}
	for _, flag := range r.flags() {
		opts = append(opts, flag)
	}
	switch {
	case r.Messages != nil:
		chat, err := finermoe.NewChat(r.Messages...)
		if err != nil {
			return nil, err
		}
		defer chat.Close()
		return session.NewGenerationChat(chat, opts...)
	case r.IDs != nil:
		return session.NewGenerationIDs(r.IDs, opts...)
	case r.PromptUTF16 != nil:
		return session.NewGeneration(string(utf16.Decode(r.PromptUTF16)), opts...)
	}
	return session.NewGeneration(r.Prompt.string, opts...)
}

// text makes the request and runs it to its end.
func (r *request) text(session *finermoe.Session) (string, error) {
	generation, err := r.start(session)
	if err != nil {
		return "", err
	}
	defer generation.Close()
	return textToTheEnd(generation)
}

func textToTheEnd(generation *finermoe.Generation) (string, error) {
	var text strings.Builder
	for event, err := range generation.Events(context.Background()) {
		if err != nil {
			return "", err
		}
		text.WriteString(event.Text)
	}
	return text.String(), nil
}

// compare says where the results differ from what is expected, value by value as they stand in JSON.
func compare(expect map[string]json.RawMessage, found results) error {
	for _, name := range slices.Sorted(maps.Keys(expect)) {
		value, given := found[name]
		if !given {
			return fmt.Errorf("%s: nothing was found", name)
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if !equal(parse(expect[name]), parse(encoded)) {
			return fmt.Errorf("%s: expected %s, found %s", name, expect[name], encoded)
		}
	}
	return nil
}

func parse(text []byte) (value any) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // a seed has more digits than a float64
	if err := decoder.Decode(&value); err != nil {
		return err
	}
	return value
}

// equal compares values of JSON; numbers with a fraction to within 1e-4.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && equalNumbers(a.String(), b.String())
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equal)
	}
	return a == b
}

func equalNumbers(a, b string) bool {
	if a == b {
		return true
	}
	if !strings.ContainsAny(a+b, ".eE") {
		return false
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && math.Abs(x-y) <= 1e-4
}

// initialisms are capitals that C writes as one word.
var initialisms = strings.NewReplacer("NormTopK", "NormTopk", "KV", "Kv", "MoE", "Moe", "DType", "Dtype", "ISA", "Isa",
	"RMS", "Rms", "BLAS", "Blas", "BOS", "Bos", "EOS", "Eos", "ID", "Id", "MACs", "Macs")

// cName is the C name of a field: NKVHeads is n_kv_heads.
func cName(field string) string {
	var name strings.Builder
	for i, letter := range initialisms.Replace(field) {
		if unicode.IsUpper(letter) {
			if i > 0 {
				name.WriteByte('_')
			}
			letter = unicode.ToLower(letter)
		}
		name.WriteRune(letter)
	}
	return name.String()
}

// fields is a struct's fields by their C names.
func fields(of any) results {
	found := results{}
	value := reflect.ValueOf(of)
	for i := range value.NumField() {
		found[cName(value.Type().Field(i).Name)] = value.Field(i).Interface()
	}
	return found
}

func argmax(values []float32) int {
	best := 0
	for i, value := range values {
		if value > values[best] {
			best = i
		}
	}
	return best
}
