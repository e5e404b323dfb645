#include "text/components.h"

#include "text/json_values.h"
#include "text/tokenizer_json.h"

namespace finermoe {
namespace {

Status unsupported(std::string_view component, std::string expected, std::string found) {
  return unsupported_component(format_text("tokenizer.json: ", component), std::move(expected), std::move(found));
}

// Flattens a Sequence, and Sequences within it, into its elements; null has none.
void flatten(const Json& component, const char* elements, std::vector<const Json*>& into) {
  if (is(member(component, "type"), "Sequence") && member(component, elements).is_array()) {
    for (const Json& element : member(component, elements)) flatten(element, elements, into);
  } else if (!component.is_null()) {
    into.push_back(&component);
  }
}

std::vector<const Json*> elements_of(const Json& component, const char* elements) {
  std::vector<const Json*> flat;
  flatten(component, elements, flat);
  return flat;
}

Status read_normalizer(const Json& normalizer, Components& into) {
  for (const Json* element : elements_of(normalizer, "normalizers")) {
    if (!is(member(*element, "type"), "NFC")) return unsupported("normalizer", "NFC or null", show(*element));
    into.nfc = true;
  }
  return {};
}

Status read_pre_tokenizer(const Json& pre_tokenizer, Components& into) {
  const auto elements = elements_of(pre_tokenizer, "pretokenizers");
  for (size_t i = 0; i < elements.size() && i < 2; ++i) {
    const char* expected = i == 0 ? "Split" : "ByteLevel";
    if (is(member(*elements[i], "type"), expected)) continue;
    return unsupported(format_text("pre_tokenizer ", i), expected, show(*elements[i]));
  }
  if (elements.size() != 2) {
    return unsupported("pre_tokenizer", "a Sequence of Split and ByteLevel",
                       elements.empty() ? "null" : format_text("a Sequence of ", elements.size()));
  }
  const Json &split = *elements[0], &bytes = *elements[1];
  const Json& pattern = member(split, "pattern");
  if (is(member(pattern, "Regex"), kLlama3Pattern)) {
    into.numbers = NumberWords::three_digits;
  } else if (!is(member(pattern, "Regex"), kQwenPattern)) {
    return unsupported("the pattern of Split", format_text(kQwenPattern, " or with \\p{N}{1,3}"), show(pattern));
  }
  if (!is(member(split, "behavior"), "Isolated") || member(split, "invert") != false) {
    return unsupported("the behavior of Split", "\"Isolated\", not inverted", show(member(split, "behavior")));
  }
  for (const char* flag : {"add_prefix_space", "use_regex"}) {
    if (member(bytes, flag) != false) {
      return unsupported(format_text(flag, " of the pre_tokenizer ByteLevel"), "false", show(member(bytes, flag)));
    }
  }
  return {};
}

Status read_template_ids(const Json& ids, std::string_view name, std::vector<int32_t>& into) {
  auto bad = [&](const Json& found) {
    return malformed_tokenizer(format_text("tokenizer.json: the ids of ", name, " of the post_processor are ",
                                           show(found), ", expected numbers from 0 to ", kMaxTokenId));
  };
  if (!ids.is_array()) return bad(ids);
  for (const Json& id : ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId)) return bad(id);
    into.push_back(static_cast<int32_t>(id.get<uint64_t>()));
  }
  return {};
}

// {"single": [{"SpecialToken": {"id": NAME}}, {"Sequence": {"id": "A"}}], "special_tokens": {NAME: {"ids": [1]}}}
Status read_template(const Json& post_processor, Components& into) {
  const Json& single = member(post_processor, "single");
  size_t n_sequences = 0;
  for (const Json& piece : single.is_array() ? single : Json::array()) {
    if (const Json& sequence = member(piece, "Sequence"); !sequence.is_null()) {
      n_sequences += is(member(sequence, "id"), "A") ? 1 : 2;
      continue;
    }
    const Json& name = member(member(piece, "SpecialToken"), "id");
    if (!name.is_string()) {
      return malformed_tokenizer(format_text("tokenizer.json: a piece of TemplateProcessing is ", show(piece)));
    }
    const Json& token = member(member(post_processor, "special_tokens"), name.get_ref<const std::string&>().c_str());
    FM_TRY(read_template_ids(member(token, "ids"), show(name), n_sequences == 0 ? into.before : into.after));
  }
  if (n_sequences == 1) return {};
  return unsupported("single of TemplateProcessing", "special tokens around the sequence A, once", show(single));
}

// RobertaProcessing and BertProcessing: ["<s>", 0] before and after a text.
Status read_cls_and_sep(const Json& post_processor, Components& into) {
  for (const char* key : {"cls", "sep"}) {
    const Json& token = member(post_processor, key);
    const Json ids = token.is_array() && token.size() == 2 ? Json::array({token[1]}) : Json();
    FM_TRY(read_template_ids(ids, key, *key == 'c' ? into.before : into.after));
  }
  return {};
}

Status read_post_processor(const Json& post_processor, Components& into) {
  bool adds = false;
  for (const Json* element : elements_of(post_processor, "processors")) {
    const Json& type = member(*element, "type");
    if (is(type, "ByteLevel")) continue;  // changes offsets only
    Components added;
    if (is(type, "TemplateProcessing")) {
      FM_TRY(read_template(*element, added));
    } else if (is(type, "RobertaProcessing") || is(type, "BertProcessing")) {
      FM_TRY(read_cls_and_sep(*element, added));
    } else {
      return unsupported("post_processor", "TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel or null",
                         show(*element));
    }
    if (added.before.empty() && added.after.empty()) continue;
    if (adds) return unsupported("post_processor", "one that adds special tokens", "a Sequence of several");
    adds = true;
    into.before = std::move(added.before);
    into.after = std::move(added.after);
  }
  return {};
}

Status read_decoder(const Json& decoder) {
  const auto elements = elements_of(decoder, "decoders");
  if (elements.size() == 1 && is(member(*elements[0], "type"), "ByteLevel")) return {};
  return unsupported("decoder", "ByteLevel", elements.size() == 1 ? show(*elements[0]) : show(decoder));
}

// unk_token, fuse_unk and byte_fallback say what happens to characters without a token: there are none, since the
// vocabulary must contain all bytes.
Status read_model_options(const Json& model, Components& into) {
  const Json& type = member(model, "type");  // old files have none
  if (!type.is_null() && !is(type, "BPE")) return unsupported("model", "BPE", show(model));
  for (const char* option : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& value = member(model, option);
    if (!value.is_null() && !is(value, "") && !(value.is_number() && value == 0)) {
      return unsupported(format_text("the model's ", option), "none", show(value));
    }
  }
  into.ignore_merges = member(model, "ignore_merges") == true;
  return {};
}

}  // namespace

Result<Components> read_components(const Json& root) {
  Components components;
  FM_TRY(read_normalizer(member(root, "normalizer"), components));
  FM_TRY(read_pre_tokenizer(member(root, "pre_tokenizer"), components));
  FM_TRY(read_post_processor(member(root, "post_processor"), components));
  FM_TRY(read_decoder(member(root, "decoder")));
  FM_TRY(read_model_options(member(root, "model"), components));
  return components;
}

}  // namespace finermoe
