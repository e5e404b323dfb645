/*
Package finermoe runs FineRMoE language models, and the Qwen2 models that they are made from, by libfinermoe.

A [Model] is an open checkpoint; a [Session] of it is a sequence of tokens with its KV cache; [Session.Generate] and
[Session.Chat] go on from there, event by event:

	model, err := finermoe.Open("tiny-wordnet-finermoe", finermoe.Threads(2))
	if err != nil {
		return err
	}
	defer model.Close()
	session, err := model.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	for event, err := range session.Generate(ctx, "A ship", finermoe.MaxTokens(20)) {
		if err != nil {
			return err
		}
		fmt.Print(event.Text)
	}

The manual of the library is its header, finermoe.h. What follows holds everywhere in this package.

# Errors

An error of the library is an [*Error], and errors.Is finds its [Code] in it, such as [ErrContextLength]. A call that
fails leaves its object usable, and as it was unless its documentation says otherwise. Where a context ended a call,
errors.Is finds ctx.Err() too; where the error of a [ProgressFunc] did, that.

# Closing

What has a Close is freed by it, in any order, and closing it twice does nothing. A session keeps its model alive, a
generation its session. Close can be called while other goroutines use the object: what runs on it ends, and their calls
return [ErrClosed], as every later call does. What nobody closes is freed when it is unreachable; since the garbage
collector does not see the memory behind it, that can be late, and it never comes for a session whose own [ProgressFunc]
refers to it.

# Goroutines

[Runtime], [Config], [Model], [Tokenizer] and [GenerationOptions] can be used by any number of goroutines at once. The
others are for one call at a time, from any goroutine: [Session], [Generation], [Batch] and [Trace] refuse a call that
comes while another one runs ([ErrBusy]); calls of [Chat], [Decoder] and [Sampler] wait for each other. Callbacks are
called on the goroutine of the call that they belong to. A callback's panic comes out of that call.

# Slices and strings

Slices that come out of a call are the caller's. Slices that go in are read during the call and not kept, except by
[OpenBytes]. Texts are strings of any bytes; where the library needs UTF-8, invalid bytes become U+FFFD. Ids of tokens
are int32, counts int.
*/
package finermoe
