// finermoe completion: shell completion, generated from the command line's own definition, so that it knows every flag.
#include "commands.h"
#include "failure.h"
#include "flags.h"
#include "printing.h"

namespace tool {

namespace {

struct Flag {
  std::vector<std::string> names;    // including the dashes
  std::vector<std::string> choices;  // the values that may follow, if there are few
  std::string description;
  bool takes_value = false;
};

struct Command {
  std::string name, description;
  std::vector<Flag> flags;
  std::vector<std::string> words;  // the choices for its arguments; files if there are none
};

// "a,b" from a type name that holds "{a,b}".
std::vector<std::string> listed_choices(const std::string& type) {
  const size_t begin = type.find('{'), end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos) return {};
  return CLI::detail::split(type.substr(begin + 1, end - begin - 1), ',');
}

Command describe(const CLI::App& app) {
  Command command{app.get_name(), app.get_description(), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    Flag flag;
    for (const std::string& name : option->get_snames()) flag.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) flag.names.push_back("--" + name);
    flag.choices = listed_choices(option->get_type_name());
    if (flag.names.empty()) {
      command.words.insert(command.words.end(), flag.choices.begin(), flag.choices.end());
      continue;
    }
    flag.description = option->get_description();
    flag.takes_value = option->get_items_expected_max() > 0;
    command.flags.push_back(std::move(flag));
  }
  return command;
}

std::vector<Command> describe_all(const CLI::App& app) {
  std::vector<Command> commands;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    commands.push_back(describe(*sub));
  return commands;
}

std::string join(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

// Single-quotes text for a shell; `quote` is how that shell escapes a quote.
std::string quoted(const std::string& text, const char* quote) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string(quote) : std::string(1, c);
  return out + "'";
}

std::string bash_script(const Command& top, const std::vector<Command>& commands) {
  std::string names, cases;
  for (const Command& command : commands) {
    names += (names.empty() ? "" : " ") + command.name;
    std::string flags, values;
    for (const Flag& flag : command.flags) {
      flags += (flags.empty() ? "" : " ") + join(flag.names, " ");
      if (!flag.choices.empty()) {
        values += "        " + join(flag.names, "|") + ") COMPREPLY=($(compgen -W \"" + join(flag.choices, " ") +
                  "\" -- \"$word\")); return ;;\n";
      } else if (flag.takes_value) {
        values += "        " + join(flag.names, "|") + ") return ;;\n";
      }
    }
    cases += "    " + command.name + ")\n";
    if (!values.empty()) cases += "      case \"$before\" in\n" + values + "      esac\n";
    cases += "      flags=\"" + flags + "\" words=\"" + join(command.words, " ") + "\" ;;\n";
  }
  std::vector<std::string> top_flags;
  for (const Flag& flag : top.flags) top_flags.push_back(join(flag.names, " "));
  return "# bash completion for finermoe\n"
         "_finermoe() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags= words=\n"
         "  COMPREPLY=()\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
         "    COMPREPLY=($(compgen -W \"" +
         names + " " + join(top_flags, " ") +
         "\" -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases +
         "  esac\n"
         "  case \"$word\" in\n"
         "    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$word\")) ;;\n"
         "    *) COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n"
         "  esac\n"
         "}\n"
         "complete -o default -F _finermoe finermoe\n";
}

// Escapes text for an _arguments specification, where brackets and colons have a meaning.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_script(const std::vector<Command>& commands) {
  std::string names, cases;
  for (const Command& command : commands) {
    names += "    " + quoted(zsh_text(command.name) + ":" + zsh_text(command.description), "'\\''") + "\n";
    cases += "    " + command.name + ")\n      _arguments \\\n";
    for (const Flag& flag : command.flags) {
      for (const std::string& name : flag.names) {
        std::string specification = name + "[" + zsh_text(flag.description) + "]";
        if (!flag.choices.empty()) specification += ":value:(" + join(flag.choices, " ") + ")";
        if (flag.choices.empty() && flag.takes_value) specification += ":value:_files";
        cases += "        " + quoted(specification, "'\\''") + " \\\n";
      }
    }
    cases +=
        "        '*:argument:" + (command.words.empty() ? "_files" : "(" + join(command.words, " ") + ")") + "' ;;\n";
  }
  return "#compdef finermoe\n"
         "_finermoe() {\n"
         "  local -a commands\n"
         "  commands=(\n" +
         names +
         "  )\n"
         "  if (( CURRENT == 2 )); then\n"
         "    _describe command commands\n"
         "    return\n"
         "  fi\n"
         "  local command=$words[2]\n"
         "  shift words\n"
         "  (( CURRENT-- ))\n"
         "  case $command in\n" +
         cases +
         "  esac\n"
         "}\n"
         "if [ \"$funcstack[1]\" = _finermoe ]; then _finermoe \"$@\"; else compdef _finermoe finermoe; fi\n";
}

std::string fish_script(const Command& top, const std::vector<Command>& commands) {
  const auto declare = [](const std::string& condition, const Flag& flag) {
    std::string line = "complete -c finermoe -n " + quoted(condition, "\\'");
    for (const std::string& name : flag.names) {
      line += name.compare(0, 2, "--") == 0 ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    if (!flag.choices.empty()) line += " -x -a " + quoted(join(flag.choices, " "), "\\'");
    if (flag.choices.empty() && flag.takes_value) line += " -r";
    return line + " -d " + quoted(flag.description, "\\'") + "\n";
  };
  std::string text = "# fish completion for finermoe\n";
  for (const Flag& flag : top.flags) text += declare("__fish_use_subcommand", flag);
  for (const Command& command : commands) {
    text += "complete -c finermoe -f -n __fish_use_subcommand -a " + command.name + " -d " +
            quoted(command.description, "\\'") + "\n";
    if (!command.words.empty()) {
      text += "complete -c finermoe -f -n '__fish_seen_subcommand_from " + command.name + "' -a " +
              quoted(join(command.words, " "), "\\'") + "\n";
    }
    for (const Flag& flag : command.flags) text += declare("__fish_seen_subcommand_from " + command.name, flag);
  }
  return text;
}

}  // namespace

void add_completion(CommandLine& line) {
  CLI::App* command = line.app.add_subcommand("completion", "shell completion: bash, zsh or fish");
  command->footer(
      "Examples:\n"
      "  source <(finermoe completion bash)\n"
      "  finermoe completion zsh > ~/.zfunc/_finermoe\n"
      "  finermoe completion fish > ~/.config/fish/completions/finermoe.fish\n");
  auto shell = std::make_shared<std::string>();
  add_choice(*command, "SHELL", *shell, {"bash", "zsh", "fish"}, "which shell")->required();
  command->callback([&line, shell] {
    line.run = [&line, shell] {
      const Command top = describe(line.app);
      const std::vector<Command> commands = describe_all(line.app);
      print(*shell == "bash"  ? bash_script(top, commands)
            : *shell == "zsh" ? zsh_script(commands)
                              : fish_script(top, commands));
      return static_cast<int>(kOk);
    };
  });
}

}  // namespace tool
