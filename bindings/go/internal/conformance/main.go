// Command conformance walks the rows of bindings/conformance and prints one line for each: conformance SOURCE_FOLDER
//
// bindings/conformance/README.md says what a row is. Its kinds are the methods of runner that the map kinds lists.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"finermoe.example/finermoe"
)

// results are what a behaviour gave, by the names of the row's `expect`.
type results map[string]any

var kinds = map[string]func(*runner, *row) (results, error){
	"encode": encode, "encode_repeated": encodeRepeated, "decode": decode, "stream_decode": streamDecode,
	"token": token, "find": find, "chat_prompt": chatPrompt, "chat_edit": chatEdit, "tokenizer_info": tokenizerInfo,
	"tokenizer_memory": tokenizerMemory,

	"config": config, "config_json": configJSON, "plan": plan, "system": system, "runtime": profiledRuntime,
	"open_memory": openMemory, "open_fd": openFD, "expert_similarity": expertSimilarity, "executor": executor,
	"expert_cache": expertCache,
	"log":          logged, "load_progress": loadProgress,

	"logits": logits, "hidden": hidden, "score": score, "session": session, "session_info": sessionInfo,
	"routes": routes,

	"generate": generate, "info": generationInfo, "options_info": optionsInfo, "hook": hook,
	"append_in_the_middle": appendInTheMiddle, "finish": finish, "resume": resume, "continue": goOn,
	"sampler": sampler, "batch": batch, "batch_error": batchError,

	"cancel": cancel, "cancelled_before": cancelledBefore, "close_session": closeSession, "close_model": closeModel,
	"closed": closed, "close_twice": closeTwice, "two_models": twoModels, "many_sessions": manySessions, "busy": busy,

	"error": failure,

	"upcycle": upcycle, "quantize": quantize, "synthesize": synthesize, "verify": verify,
	"writer_progress": writerProgress, "writer_cancel": writerCancel, "writer_exists": writerExists,
}

// source is the project's folder.
var source string

// runner is what behaviours share: a temporary folder for each row.
type runner struct {
	folder string
}

func (r *runner) run(line *row) error {
	behaviour, known := kinds[line.Kind]
	if !known {
		return fmt.Errorf("no such kind: %s", line.Kind)
	}
	folder, err := os.MkdirTemp("", "finermoe-conformance-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	r.folder = folder
	found, err := behaviour(r, line)
	if err != nil {
		return err
	}
	return compare(line.Expect, found)
}

func (r *runner) modelPath(line *row) string {
	switch {
	case line.Shape != "":
		return filepath.Join(source, "tests/data/shapes", line.Shape)
	case line.Model != "":
		return examplePath(line.Model)
	}
	return examplePath("tiny-wordnet-finermoe")
}

func examplePath(name string) string {
	return filepath.Join(source, "examples/models", name)
}

// open opens the row's model with 2 threads.
func (r *runner) open(line *row, opts ...finermoe.ModelOption) (*finermoe.Model, error) {
	return finermoe.Open(r.modelPath(line), append(opts, finermoe.Threads(2))...)
}

// openSession opens the row's model, and a session with what the row says. The caller closes both.
func (r *runner) openSession(line *row, opts ...finermoe.SessionOption) (*finermoe.Model, *finermoe.Session, error) {
	model, err := r.open(line)
	if err != nil {
		return nil, nil, err
	}
	session, err := model.NewSession(append(line.sessionOptions(), opts...)...)
	if err != nil {
		model.Close()
		return nil, nil, err
	}
	return model, session, nil
}

// codeOf is the name of an error's code.
func codeOf(err error) string {
	var failed *finermoe.Error
	if errors.As(err, &failed) {
		return failed.Name
	}
	return fmt.Sprint(err)
}

func walk() (failures int, err error) {
	files, err := filepath.Glob(filepath.Join(source, "bindings/conformance/*.json"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no rows in %s/bindings/conformance", source)
	}
	sort.Strings(files)
	r := &runner{}
	out := bufio.NewWriter(os.Stdout)
	defer func() { err = errors.Join(err, out.Flush()) }()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return failures, err
		}
		var lines []*row
		if err := json.Unmarshal(text, &lines); err != nil {
			return failures, fmt.Errorf("%s: %w", file, err)
		}
		for _, line := range lines {
			verdict := "ok"
			if err := r.run(line); err != nil {
				failures++
				verdict = "failed: " + strings.ReplaceAll(err.Error(), "\n", " ")
			}
			_, _ = fmt.Fprintf(out, "%s/%s\t%s\n", strings.TrimSuffix(filepath.Base(file), ".json"), line.Name, verdict)
		}
	}
	return failures, nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: conformance SOURCE_FOLDER")
		os.Exit(2)
	}
	source = os.Args[1]
	failures, err := walk()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	if err != nil || failures > 0 {
		os.Exit(1)
	}
}
