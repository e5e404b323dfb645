package finermoe

import "finermoe.example/finermoe/internal/low"

// Message is one message of a conversation. Role is "system", "user" or "assistant".
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Chat is a conversation that can be changed in the middle. Calls wait for each other.
type Chat struct{ object *object[low.Chat] }

// NewChat makes a conversation. The caller may close it.
func NewChat(messages ...Message) (*Chat, error) {
	handle, err := create(low.ChatCreate)
	if err != nil {
		return nil, err
	}
	c := &Chat{}
	c.object = newObject(c, &object[low.Chat]{name: "chat", sharing: waiting, handle: handle, frees: low.ChatFree})
	for _, message := range messages {
		if err := c.Add(message.Role, message.Content); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Close lets go of the conversation. A second call does nothing.
func (c *Chat) Close() { c.object.close() }

// Add adds a message at the end. Invalid UTF-8 in its text becomes U+FFFD.
func (c *Chat) Add(role, text string) error {
	if err := checkPaths(role); err != nil {
		return err
	}
	return c.object.use(func(h low.Chat) low.Error { return low.ChatAdd(h, role, text) })
}

// Set gives a message another text; it keeps its role.
func (c *Chat) Set(i int, text string) error {
	return c.object.use(func(h low.Chat) low.Error { return low.ChatSet(h, i, text) })
}

// Truncate forgets all messages from n on.
func (c *Chat) Truncate(n int) error {
	return c.object.use(func(h low.Chat) low.Error { return low.ChatTruncate(h, n) })
}

// Remove forgets the messages [begin, end).
func (c *Chat) Remove(begin, end int) error {
	return c.object.use(func(h low.Chat) low.Error { return low.ChatRemove(h, begin, end) })
}

// Messages is the conversation.
func (c *Chat) Messages() (messages []Message, err error) {
	message := low.NewChatMessage()
	defer low.DeleteChatMessage(message)
	err = c.object.use(func(h low.Chat) low.Error {
		for i := range low.ChatCount(h) {
			if failure := low.ChatGet(h, i, message); failure != 0 {
				return failure
			}
			messages = append(messages, Message{message.GetRole(), message.GetText()})
		}
		return 0
	})
	return messages, err
}

// Encode is the ids of the prompt, as the tokenizer's own chat template renders the messages. Special tokens typed into
// a message stay text. Flags: NoGenerationPrompt, ContinueLast.
func (c *Chat) Encode(tokenizer *Tokenizer, flags ...TextFlag) (ids []int32, err error) {
	err = c.with(tokenizer, func(chat low.Chat, h low.Tokenizer) (failure low.Error) {
		ids, failure = fill(512, func(buffer []int32, capacity int, needed *int) low.Error {
			return low.ChatEncode(chat, h, flagsOf(flags), buffer, capacity, needed)
		})
		return failure
	})
	return ids, err
}

// Render is the prompt as text, for a person to read.
func (c *Chat) Render(tokenizer *Tokenizer, flags ...TextFlag) (string, error) {
	var text []byte
	err := c.with(tokenizer, func(chat low.Chat, h low.Tokenizer) (failure low.Error) {
		text, failure = fill(4096, func(buffer []byte, capacity int, needed *int) low.Error {
			return low.ChatRender(chat, h, flagsOf(flags), buffer, capacity, needed)
		})
		return failure
	})
	return string(text), err
}

func (c *Chat) with(tokenizer *Tokenizer, call func(low.Chat, low.Tokenizer) low.Error) error {
	if tokenizer.failed != nil {
		return tokenizer.failed
	}
	return use2(c.object, tokenizer.object, call)
}
