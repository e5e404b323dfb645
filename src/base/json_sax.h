// The parser of JSON, event by event: nlohmann's. Its own type of a value is never made: Json is ours (base/json.h).
#pragma once

#include <nlohmann/json.hpp>

namespace finermoe {

using JsonSax = nlohmann::json_sax<nlohmann::json>;

// False if the text is no JSON, which `handler` has heard of, or if an answer of `handler` was.
template <class Begin, class End, class Handler>
bool parse_json_events(Begin begin, End end, Handler* handler) {
  return nlohmann::json::sax_parse(begin, end, handler);
}

}  // namespace finermoe
