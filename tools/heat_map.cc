#include "heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "units.h"

namespace tool {

namespace {

// A perceptually uniform scale from dark to bright, readable with color blindness (samples of "viridis").
constexpr std::array<std::array<double, 3>, 9> kScale = {{{68, 1, 84},
                                                          {71, 44, 122},
                                                          {59, 81, 139},
                                                          {44, 113, 142},
                                                          {33, 144, 141},
                                                          {39, 173, 129},
                                                          {92, 200, 99},
                                                          {170, 220, 50},
                                                          {253, 231, 37}}};

std::string colour(double fraction) {
  const double position = std::clamp(fraction, 0.0, 1.0) * (kScale.size() - 1);
  const size_t low = std::min(static_cast<size_t>(position), kScale.size() - 2);
  const double part = position - static_cast<double>(low);
  char text[8] = "#";
  for (size_t i = 0; i < 3; ++i) {
    const auto value = static_cast<unsigned>(std::lround(kScale[low][i] * (1 - part) + kScale[low + 1][i] * part));
    text[1 + 2 * i] = "0123456789abcdef"[value >> 4];
    text[2 + 2 * i] = "0123456789abcdef"[value & 15];
  }
  return text;
}

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;  // XML allows no other control characters
    }
  }
  return out;
}

std::string number(double value) {
  std::string text = format_fixed(value, 2);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string text_at(double x, double y, const std::string& style, const std::string& text) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" class=\"" + style + "\">" + escape(text) + "</text>\n";
}

// A step of 1, 2 or 5 times a power of ten that leaves at most `most` labels.
size_t label_step(size_t count, size_t most) {
  for (size_t power = 1;; power *= 10) {
    for (const size_t factor : {1, 2, 5}) {
      if (count <= most * power * factor) return power * factor;
    }
  }
}

// An opaque background, light or dark like the viewer's theme, so that the labels are readable anywhere.
constexpr const char* kStyle =
    "<style>\n"
    "  .back { fill: #ffffff }\n"
    "  text { font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; font-size: 11px;"
    " fill: #333333 }\n"
    "  .title { font-size: 15px; font-weight: 600; fill: #111111 }\n"
    "  .axis { font-size: 12px; text-anchor: middle }\n"
    "  .tick { text-anchor: middle }\n"
    "  .row { text-anchor: end }\n"
    "  .frame { fill: none; stroke: #999999 }\n"
    "  @media (prefers-color-scheme: dark) {\n"
    "    .back { fill: #16181d }\n"
    "    text { fill: #c9ccd3 }\n"
    "    .title { fill: #f2f3f5 }\n"
    "    .frame { stroke: #6b7078 }\n"
    "  }\n"
    "</style>\n";

constexpr double kLeft = 64, kTop = 64, kRight = 110, kBottom = 52;  // margins around the cells
constexpr double kHalfDigit = 4;  // half a digit's height, to center text vertically on a point

std::string rectangle(double x, double y, double width, double height, const std::string& attributes,
                      const std::string& hint) {
  return "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(width) + "\" height=\"" +
         number(height) + "\" " + attributes +
         (hint.empty() ? "/>\n" : "><title>" + escape(hint) + "</title></rect>\n");
}

// The color scale with its end points and the even share.
std::string draw_legend(double x, double height, double most) {
  std::string svg = "<defs><linearGradient id=\"scale\" x1=\"0\" y1=\"1\" x2=\"0\" y2=\"0\">";
  for (size_t i = 0; i < kScale.size(); ++i) {
    const double at = static_cast<double>(i) / (kScale.size() - 1);
    svg += "<stop offset=\"" + number(at) + "\" stop-color=\"" + colour(at) + "\"/>";
  }
  svg += "</linearGradient></defs>\n";
  svg += rectangle(x, kTop, 14, height, "fill=\"url(#scale)\" class=\"bar\"", "");
  svg += rectangle(x, kTop, 14, height, "class=\"frame\"", "");
  svg += text_at(x, kTop - 10, "", "× even share");
  const auto label = [&](double value) {
    svg += text_at(x + 20, kTop + height * (1 - value / most) + kHalfDigit, "", number(value));
  };
  label(0);
  const double apart = height / most;  // between the labels 0 and 1
  if (apart > 14 && height - apart > 14) label(1);
  label(most);
  return svg;
}

}  // namespace

std::string draw_heat_map(const UsageMap& map) {
  const size_t n_rows = map.layers.size(), n_columns = map.counts[0].size();
  const double cell_width = std::clamp(900.0 / static_cast<double>(n_columns), 2.0, 28.0);
  const double cell_height = std::clamp(480.0 / static_cast<double>(n_rows), 10.0, 28.0);
  const double width = cell_width * static_cast<double>(n_columns), height = cell_height * static_cast<double>(n_rows);
  const double full_width = std::max(kLeft + width + kRight, 480.0), full_height = kTop + height + kBottom;
  const double even = static_cast<double>(map.n_tokens * map.n_experts_per_token) / static_cast<double>(n_columns);
  uint64_t largest = 1;
  for (const auto& row : map.counts) largest = std::max(largest, *std::max_element(row.begin(), row.end()));
  const double most = std::max(1.0, std::ceil(10 * static_cast<double>(largest) / even) / 10);

  std::string svg = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" +
                    number(full_width) + "\" height=\"" + number(full_height) + "\" viewBox=\"0 0 " +
                    number(full_width) + " " + number(full_height) + "\" role=\"img\">\n";
  svg += "<title>" + escape("Expert usage of " + map.model) + "</title>\n";
  svg += kStyle;
  svg += rectangle(0, 0, full_width, full_height, "class=\"back\"", "");
  svg += text_at(20, 28, "title", "Expert usage of " + map.model + ", " + std::to_string(map.n_tokens) + " tokens");

  for (size_t row = 0; row < n_rows; ++row) {
    const double y = kTop + cell_height * static_cast<double>(row);
    for (size_t column = 0; column < n_columns; ++column) {
      const uint64_t count = map.counts[row][column];
      svg += rectangle(
          kLeft + cell_width * static_cast<double>(column), y, cell_width, cell_height,
          "fill=\"" + colour(static_cast<double>(count) / even / most) + "\" shape-rendering=\"crispEdges\"",
          "layer " + std::to_string(map.layers[row]) + ", expert " + std::to_string(column) + ": " +
              std::to_string(count) + " tokens, " + number(static_cast<double>(count) / even) + " × even share");
    }
    if (row % label_step(n_rows, 40) == 0) {
      svg += text_at(kLeft - 8, y + cell_height / 2 + kHalfDigit, "row", std::to_string(map.layers[row]));
    }
  }
  svg += rectangle(kLeft, kTop, width, height, "class=\"frame\"", "");
  const size_t step = label_step(n_columns, static_cast<size_t>(std::max(1.0, width / 28)));
  for (size_t column = 0; column < n_columns; column += step) {
    svg += text_at(kLeft + cell_width * (static_cast<double>(column) + 0.5), kTop + height + 16, "tick",
                   std::to_string(column));
  }
  svg += text_at(kLeft + width / 2, kTop + height + 38, "axis", "expert");
  const std::string middle = number(kTop + height / 2);
  svg +=
      "<text x=\"22\" y=\"" + middle + "\" class=\"axis\" transform=\"rotate(-90 22 " + middle + ")\">layer</text>\n";
  svg += draw_legend(kLeft + width + 28, height, most);
  return svg + "</svg>\n";
}

}  // namespace tool
