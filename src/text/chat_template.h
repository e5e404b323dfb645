// Chat templates of the ChatML family: recognized by their text, rendered without a template engine.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace finermoe {

constexpr std::string_view kChatStart = "<|im_start|>", kChatEnd = "<|im_end|>";

struct ChatTemplate {
  std::optional<std::string> default_system;  // what is put before messages that do not begin with a system message
};

// A part of a rendered prompt: one of the two special tokens, or a maximal run of text.
struct ChatPart {
  std::string text;
  bool special = false;
};

// FINERMOE_ERROR_CHAT_TEMPLATE if the template is of another family.
Result<ChatTemplate> recognise_chat_template(std::string_view source);
Result<std::vector<ChatPart>> render_chat_parts(const ChatTemplate& chat, std::span<const ChatMessage> messages,
                                                ChatEnd end);

}  // namespace finermoe
