// Event-based (SAX) JSON parsing, by nlohmann's parser. Its own value type is never created: ours is Json
// (base/json.h).
#pragma once

#include <nlohmann/json.hpp>

namespace finermoe {

using JsonSax = nlohmann::json_sax<nlohmann::json>;

// False if the text is not JSON, which `handler` was told, or if `handler` returned false.
template <class Begin, class End, class Handler>
bool parse_json_events(Begin begin, End end, Handler* handler) {
  return nlohmann::json::sax_parse(begin, end, handler);
}

}  // namespace finermoe
