/** `mptun completion`: shell completion, made from the commands as they are. */
import { Argument, Command } from 'commander';

interface Verb {
  /** Words that lead here: [] for the program itself. */
  readonly words: readonly string[];
  readonly description: string;
  /** Subcommands, or the words that its argument may be. */
  readonly children: readonly { name: string; description: string }[];
  readonly options: readonly { name: string; description: string }[];
  readonly takesFile: boolean;
}

export function completionCommand(program: () => Promise<Command>): Command {
  return new Command('completion')
    .description('print a completion script for a shell')
    .addArgument(new Argument('<shell>', 'which one').choices(['bash', 'zsh', 'fish']))
    .addHelpText('after', '\nExample:\n  mptun completion bash > /etc/bash_completion.d/mptun')
    .action(async (shell: 'bash' | 'zsh' | 'fish') => {
      const verbs = collectVerbs(await program());
      process.stdout.write({ bash: bashScript, zsh: zshScript, fish: fishScript }[shell](verbs));
    });
}

function collectVerbs(command: Command, words: readonly string[] = []): Verb[] {
  const help = command.createHelp();
  const subcommands = help.visibleCommands(command).filter((sub) => sub.name() !== 'help');
  const verb: Verb = {
    words,
    description: command.description(),
    children: [
      ...subcommands.map((sub) => ({ name: sub.name(), description: sub.description() })),
      ...command.registeredArguments.flatMap((argument) =>
        (argument.argChoices ?? []).map((choice) => ({ name: choice, description: argument.description })),
      ),
    ],
    options: help
      .visibleOptions(command)
      .filter((option) => option.long !== undefined)
      .map((option) => ({ name: option.long!, description: option.description })),
    takesFile: command.registeredArguments.some(
      (argument) => argument.name() === 'config' || argument.name() === 'file',
    ),
  };
  return [verb, ...subcommands.flatMap((sub) => collectVerbs(sub, [...words, sub.name()]))];
}

function bashScript(verbs: readonly Verb[]): string {
  const cases = verbs.map((verb) => {
    const words = [...verb.children, ...verb.options].map((word) => word.name).join(' ');
    return `    '${verb.words.join(' ')}') words='${words}'; files=${verb.takesFile ? 1 : 0} ;;`;
  });
  return `# bash completion for mptun
_mptun() {
  local cur=\${COMP_WORDS[COMP_CWORD]} verb='' i words='' files=0
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${verb:+$verb }\${COMP_WORDS[i]}" in
      ${verbs
        .filter((verb) => verb.words.length > 0)
        .map((verb) => `'${verb.words.join(' ')}'`)
        .join(' | ')}) verb="\${verb:+$verb }\${COMP_WORDS[i]}" ;;
    esac
  done
  case "$verb" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [ "$files" = 1 ] && [ "\${cur#-}" = "$cur" ]; then COMPREPLY+=($(compgen -f -- "$cur")); fi
}
complete -o filenames -F _mptun mptun
`;
}

function zshScript(verbs: readonly Verb[]): string {
  const cases = verbs.map((verb) => {
    const words = [...verb.children, ...verb.options].map((word) => `'${word.name}:${zshText(word.description)}'`);
    return `    '${verb.words.join(' ')}') offers=(${words.join(' ')}); files=${verb.takesFile ? 1 : 0} ;;`;
  });
  const known = verbs.filter((verb) => verb.words.length > 0).map((verb) => `'${verb.words.join(' ')}'`);
  return `#compdef mptun
_mptun() {
  local verb='' word files=0
  local -a offers
  for word in "\${words[@]:1:$((CURRENT - 2))}"; do
    case "\${verb:+$verb }$word" in
      ${known.join('|')}) verb="\${verb:+$verb }$word" ;;
    esac
  done
  case "$verb" in
${cases.join('\n')}
  esac
  _describe 'mptun' offers
  if (( files )); then _files; fi
}
compdef _mptun mptun
`;
}

function fishScript(verbs: readonly Verb[]): string {
  const lines = ['# fish completion for mptun', 'complete -c mptun -f'];
  for (const verb of verbs) {
    const top = verbs[0]!.children.map((child) => child.name).join(' ');
    const inner = verb.children.map((child) => child.name).join(' ');
    const seen = verb.words.map((word) => `__fish_seen_subcommand_from ${word}`);
    const here = verb.words.length === 0 ? [`not __fish_seen_subcommand_from ${top}`] : seen;
    const condition = [
      ...here,
      ...(verb.words.length > 0 && inner !== '' ? [`not __fish_seen_subcommand_from ${inner}`] : []),
    ];
    const test = condition.join('; and ');
    for (const child of verb.children) {
      lines.push(`complete -c mptun -n '${test}' -a ${child.name} -d '${fishText(child.description)}'`);
    }
    for (const option of verb.options) {
      lines.push(`complete -c mptun -n '${test}' -l ${option.name.slice(2)} -d '${fishText(option.description)}'`);
    }
    if (verb.takesFile) lines.push(`complete -c mptun -n '${test}' -F`);
  }
  return `${lines.join('\n')}\n`;
}

function zshText(text: string): string {
  return text.replaceAll("'", '').replaceAll(':', '\\:');
}

function fishText(text: string): string {
  return text.replaceAll("'", "\\'");
}
