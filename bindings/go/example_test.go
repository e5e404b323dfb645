package finermoe_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"finermoe.example/finermoe"
)

const (
	modelPath = "../../examples/models/tiny-wordnet-finermoe"
	densePath = "../../examples/models/tiny-wordnet-dense"
)

// open opens the bundled model and a session.
func open() (*finermoe.Model, *finermoe.Session) {
	model, err := finermoe.Open(modelPath, finermoe.Threads(2))
	if err != nil {
		log.Fatal(err)
	}
	session, err := model.NewSession()
	if err != nil {
		log.Fatal(err)
	}
	return model, session
}

func Example() {
	ctx := context.Background()
	model, err := finermoe.Open(modelPath, finermoe.Threads(2))
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	session, err := model.NewSession(finermoe.ContextLength(512))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	for event, err := range session.Generate(ctx, "A ship", finermoe.MaxTokens(20), finermoe.Temperature(0)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(event.Text)
		if event.FinishReason != finermoe.FinishNone {
			fmt.Println("\n" + event.FinishReason.String())
		}
	}
	// Output:
	//  with a tap.
	// stop_token
}

func ExampleSession_ChatText() {
	model, session := open()
	defer model.Close()
	defer session.Close()
	answer, err := session.ChatText(context.Background(), []finermoe.Message{
		{Role: "user", Content: `Define the noun "compass".`},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	// Output: Navigational instrument for finding directions.
}

func ExampleSession_Append() {
	model, session := open()
	defer model.Close()
	defer session.Close()
	ids, err := model.Tokenizer().Encode("A ship")
	if err != nil {
		log.Fatal(err)
	}
	logits, err := session.Append(context.Background(), ids, finermoe.LogitsAll)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ids, len(logits), len(logits[0]))
	// Output: [32 1788] 2 4096
}

func ExampleSession_SetTrace() {
	model, session := open()
	defer model.Close()
	defer session.Close()
	trace, err := model.NewTrace(finermoe.TraceRoutes)
	if err != nil {
		log.Fatal(err)
	}
	defer trace.Close()
	if err := session.SetTrace(trace); err != nil {
		log.Fatal(err)
	}
	if _, err := session.Append(context.Background(), []int32{649, 2329, 270}, finermoe.LogitsNone); err != nil {
		log.Fatal(err)
	}
	experts, err := trace.Experts(1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(experts)
	// Output: [[8 24] [8 20] [9 29]]
}

func ExampleGeneration_SetLogits() {
	model, session := open()
	defer model.Close()
	defer session.Close()
	generation, err := session.NewGeneration("A ship", finermoe.MaxTokens(4))
	if err != nil {
		log.Fatal(err)
	}
	defer generation.Close()
	for {
		if err := generation.Prepare(context.Background()); err != nil {
			log.Fatal(err)
		}
		logits, err := generation.Logits()
		if err != nil {
			log.Fatal(err)
		}
		logits[268] += 100 // " a"
		if err := generation.SetLogits(logits); err != nil {
			log.Fatal(err)
		}
		event, err := generation.Next(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(event.Text)
		if event.FinishReason != finermoe.FinishNone {
			break
		}
	}
	// Output: a a a a
}

func ExampleBatch() {
	model, session := open()
	defer model.Close()
	defer session.Close()
	batch, err := model.NewBatch()
	if err != nil {
		log.Fatal(err)
	}
	defer batch.Close()
	prompts := []string{"A ship", "A poem", "A compass"}
	texts := make([]string, len(prompts))
	for i, prompt := range prompts {
		if err := batch.AddText(prompt, uint64(i), finermoe.MaxTokens(5)); err != nil {
			log.Fatal(err)
		}
	}
	for event, err := range batch.Events(context.Background()) {
		if err := errors.Join(err, event.Err); err != nil {
			log.Fatal(err)
		}
		texts[event.Tag] += event.Text
	}
	for i, prompt := range prompts {
		fmt.Println(prompt + texts[i])
	}
	// Output:
	// A ship with a tap.
	// A poem on a surface.
	// A compass point to shine.
}

func ExampleError() {
	_, err := finermoe.Open("no-such-model")
	fmt.Println(errors.Is(err, finermoe.ErrFileNotFound), errors.Is(err, fs.ErrNotExist))
	var failed *finermoe.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Name, "found:", failed.Found)
	}
	// Output:
	// true true
	// FINERMOE_ERROR_FILE_NOT_FOUND found: No such file or directory
}

func ExampleUpcycle() {
	folder, err := os.MkdirTemp("", "upcycle-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	out := filepath.Join(folder, "moe")
	err = finermoe.Upcycle(context.Background(), densePath, out, finermoe.Preset("finermoe"), finermoe.GranularityInter(8))
	if err != nil {
		log.Fatal(err)
	}
	config, err := finermoe.OpenConfig(out)
	if err != nil {
		log.Fatal(err)
	}
	defer config.Close()
	fmt.Println(config.NExperts, "experts,", config.NExpertsPerToken, "for each token")
	// Output: 32 experts, 2 for each token
}

func ExampleConfig_Plan() {
	config, err := finermoe.OpenConfig(modelPath)
	if err != nil {
		log.Fatal(err)
	}
	defer config.Close()
	plan, err := config.Plan(finermoe.Sessions(4), finermoe.ContextLength(512))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.WeightsTotal, plan.KVCache)
	// Output: 15490432 4194304
}

func ExampleOpenBytes() {
	data, err := os.ReadFile(filepath.Join(modelPath, "config.json"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = finermoe.OpenBytes(data) // not a model
	fmt.Println(errors.Is(err, finermoe.ErrHeaderTooLarge))
	// Output: true
}
