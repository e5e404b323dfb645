#include "text/chat_template.h"

#include <algorithm>

namespace finermoe {
namespace {

// Marks where templates of a family differ: the default system prompt.
constexpr std::string_view kWildcard = "@default@";

// The known templates. All render a message as "<|im_start|>ROLE\nTEXT<|im_end|>\n" and, if requested, add
// "<|im_start|>assistant\n" at the end; they differ in whether a system message is put in front.
constexpr std::string_view kFamily[] = {
    // Qwen2.5, which also supports tools; the messages that this library accepts never reach those branches.
    R"jinja({%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- '@default@' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\n@default@<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})jinja",
    // Qwen2.
    R"jinja({% for message in messages %}
{% if loop.first and messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\n@default@<|im_end|>\n' }}
{%- endif %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})jinja",
    // ChatML without a default; the first is that of the bundled models.
    R"jinja({%- if messages[0]['role'] == 'system' %}
{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message['role'] != 'system' or not loop.first %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})jinja",
    R"jinja({% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})jinja"};

constexpr std::string_view kSpace = " \t\r\n";
constexpr char kQuote = '\1';  // encloses a string literal in the canonical form

// Templates that are spelled differently but mean the same have the same canonical form: white space that Jinja ignores
// is removed, literals are unescaped, adjacent ones joined, and x['name'] becomes x.name.
class Canonical {
 public:
  explicit Canonical(std::string_view source) : source_(source) {}

  // "" if the source is not made of complete tags.
  std::string form() {
    if (source_.find(kQuote) != source_.npos) return {};
    if (source_.ends_with('\n')) source_.remove_suffix(1);
    bool drop_space = false, after_block = false;
    for (size_t at = 0; at < source_.size();) {
      size_t open = std::min({source_.find("{%", at), source_.find("{{", at), source_.size()});
      std::string_view text = source_.substr(at, open - at);
      if (after_block && text.starts_with('\n')) text.remove_prefix(1);  // Jinja's trim_blocks
      if (drop_space) text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
      if (open == source_.size()) return out_ += text, out_;
      after_block = source_[open + 1] == '%';
      if (after_block) strip_indent(text);  // Jinja's lstrip_blocks
      at = open + 2;
      if (at < source_.size() && source_[at] == '-') {
        text = text.substr(0, text.find_last_not_of(kSpace) + 1);
        ++at;
      }
      out_ += text;
      out_ += source_.substr(open, 2);
      if (!tag(at, after_block ? "%}" : "}}", drop_space)) return {};
    }
    return out_;
  }

 private:
  static void strip_indent(std::string_view& text) {
    size_t line = text.find_last_not_of(" \t");
    if (line == text.npos) return;  // within a line, or at the beginning, where the known templates have no indent
    if (text[line] == '\n') text = text.substr(0, line + 1);
  }

  bool tag(size_t& at, std::string_view close, bool& drop_space) {
    for (; at < source_.size(); ++at) {
      char c = source_[at];
      if (kSpace.find(c) != kSpace.npos) continue;
      if (c == '"' || c == '\'') {
        if (!literal(at)) return false;
        continue;
      }
      drop_space = c == '-' && source_.substr(at + 1, 2) == close;
      if (drop_space) ++at;
      if (source_.substr(at, 2) == close) {
        out_ += close;
        at += 2;
        return true;
      }
      out_ += c;
    }
    return false;
  }

  bool literal(size_t& at) {
    char quote = source_[at];
    std::string text;
    for (++at; at < source_.size() && source_[at] != quote; ++at) {
      char c = source_[at];
      if (c == '\\') {
        constexpr std::string_view kNames = "n\\'\"t", kMeans = "\n\\'\"\t";
        size_t which = ++at < source_.size() ? kNames.find(source_[at]) : kNames.npos;
        if (which == kNames.npos) return false;
        c = kMeans[which];
      }
      text += c;
    }
    if (at >= source_.size()) return false;
    bool name = !text.empty() &&
                std::all_of(text.begin(), text.end(), [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
    constexpr char kJoin[] = {kQuote, '+', '\0'};
    if (name && out_.ends_with('[') && source_.substr(at + 1, 1) == "]") {
      out_.back() = '.';
      out_ += text;
      ++at;
    } else if (out_.ends_with(kJoin)) {
      out_.resize(out_.size() - 2);
      out_ += text + kQuote;
    } else {
      out_ += kQuote + text + kQuote;
    }
    return true;
  }

  std::string_view source_;
  std::string out_;
};

// Whether `found` is the pattern with something in place of each wildcard; `value` is set to the last of these.
bool matches(std::string_view pattern, std::string_view found, std::optional<std::string>& value) {
  size_t wildcard = pattern.find(kWildcard);
  if (wildcard == pattern.npos) return pattern == found;
  if (found.substr(0, wildcard) != pattern.substr(0, wildcard)) return false;
  pattern.remove_prefix(wildcard + kWildcard.size());
  found.remove_prefix(wildcard);
  // The value ends at the end of the literal, or at the special token in it.
  size_t end = std::min(found.find(kQuote), found.find(kChatEnd));
  if (end == found.npos) return false;
  value = found.substr(0, end);
  return matches(pattern, found.substr(end), value);
}

std::string family_of(std::string_view source) {
  constexpr std::pair<std::string_view, std::string_view> kMarks[] = {
      {"<|start_header_id|>", "Llama 3"}, {"[INST]", "Llama 2 or Mistral"},
      {"<start_of_turn>", "Gemma"},       {"<|start_of_role|>", "Granite"},
      {"<|user|>", "Zephyr or Phi-3"},    {"<\xEF\xBD\x9CUser\xEF\xBD\x9C>", "DeepSeek"}};
  for (auto [mark, name] : kMarks) {
    if (source.find(mark) != source.npos) return format_text("of the family of ", name);
  }
  return source.find(kChatStart) != source.npos ? "of another kind of ChatML" : "of an unknown family";
}

}  // namespace

Result<ChatTemplate> recognise_chat_template(std::string_view source) {
  std::string found = Canonical(source).form();
  for (std::string_view known : kFamily) {
    ChatTemplate chat;
    if (!found.empty() && matches(Canonical(known).form(), found, chat.default_system)) return chat;
  }
  std::string expected = "a ChatML template like Qwen2.5's", family = family_of(source);
  return Status(FINERMOE_ERROR_CHAT_TEMPLATE, format_text("the chat template is ", family, "; supported: ", expected),
                expected, family);
}

Result<std::vector<ChatPart>> render_chat_parts(const ChatTemplate& chat, std::span<const ChatMessage> messages,
                                                ChatEnd end) {
  if (messages.empty())
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "a chat without messages; expected at least one");
  std::vector<ChatPart> parts;
  auto add = [&](std::string_view role, std::string_view text) {
    parts.push_back({std::string(kChatStart), true});
    parts.push_back({format_text(role, "\n", text), false});
    parts.push_back({std::string(kChatEnd), true});
    parts.push_back({"\n", false});
  };
  if (chat.default_system && messages[0].role != "system") add("system", *chat.default_system);
  for (const ChatMessage& message : messages) {
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                    format_text("the role \"", message.role, "\"; expected \"system\", \"user\" or \"assistant\""),
                    "\"system\", \"user\" or \"assistant\"", message.role);
    }
    add(message.role, message.text);
  }
  if (end == ChatEnd::continue_last) parts.resize(parts.size() - 2);  // neither the end of the turn nor the line
  if (end == ChatEnd::generation_prompt) {
    parts.push_back({std::string(kChatStart), true});
    parts.push_back({"assistant\n", false});
  }
  return parts;
}

}  // namespace finermoe
