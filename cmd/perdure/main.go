// Command perdure makes other programs' calls outlast failures: it runs a
// command until it succeeds, copies files through failures, and shows what a
// retry policy will do.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/dagster"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	reserveStdin()
	code := a.main(context.Background(), os.Args[1:])
	runtime.KeepAlive(a) // has the file that reserveStdin has replaced
	os.Exit(code)
}

// reserveStdin keeps what a command reads from a pipe or a file from a credential_process, to which the AWS SDK gives os.Stdin:
// one that reads it, as ssh does, would take the bytes of a copy. A terminal stays, for a question of it.
func reserveStdin() {
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice != 0 {
		return
	}
	if null, err := os.Open(os.DevNull); err == nil {
		os.Stdin = null
	}
}

// An app holds what all commands use: files, environment, logger.
type app struct {
	stdin          *os.File
	stdout, stderr *os.File
	environ        []string

	json  bool   // --json
	level string // --log-level; "" means PERDURE_LOG_LEVEL or the default
	log   *slog.Logger

	logFormat string // --log-format; "" means PERDURE_LOG_FORMAT or the default

	onOpen string // --on-open; "" means none

	command *cobra.Command // the command that runs; nil until the arguments are parsed

	store string // of the policy of run and copy; "" means the default, or that none was needed

	dagster *dagster.Session // nil if nothing is reported to Dagster
}

// main runs the command that args name and returns its exit code.
func (a *app) main(ctx context.Context, args []string) int {
	a.log = a.logger(a.stderr)
	root := a.root()
	root.SetArgs(args)
	defer func() {
		if v := recover(); v != nil {
			a.dagster.Panicked(v, debug.Stack())
			panic(v)
		}
	}()
	ran, err := root.ExecuteContextC(ctx)
	if err != nil && a.command == nil && ran != nil {
		err = exit.UsageError(errors.Join(err, errors.New("see: "+ran.CommandPath()+" --help")))
		a.json = a.json || wantsJSON(args) // --json may follow the invalid argument
		switch ran.Name() {
		case "run":
			a.openDagster(ctx)
		case "copy":
			a.openDagster(ctx, args[len(args)-1])
		}
	}
	if err != nil {
		a.printError(err)
	}
	a.dagster.Close(err)
	return exit.Code(err)
}

// wantsJSON reports whether --json is among the arguments before "--".
func wantsJSON(args []string) bool {
	if command := slices.Index(args, "--"); command >= 0 {
		args = args[:command]
	}
	return slices.Contains(args, "--json")
}

// openDagster opens a session if Dagster has started this process. From then on, log
// lines and the outcome are reported to Dagster. data names the files that data is
// written to: messages must not go to standard output if data does.
func (a *app) openDagster(ctx context.Context, data ...string) {
	messages := report.ForJSON(a.stdout)
	if slices.ContainsFunc(data, a.isOutput) {
		messages = dagster.StdoutInUse{}
	}
	s, err := dagster.Open(ctx, a.environ, messages, report.ForJSON(a.stderr))
	if err != nil {
		a.log.Warn("Nothing is reported to Dagster: "+strings.TrimPrefix(err.Error(), "pipes: "), "event", "warning")
	}
	a.dagster, a.log = s, s.Logger(a.log)
}

// isOutput reports whether the file of that name is standard output.
func (a *app) isOutput(name string) bool { return name == "-" || isFile(name, a.stdout) }

// isFile reports whether open is the file of that name.
func isFile(name string, open *os.File) bool {
	file, err := os.Stat(name)
	info, failed := open.Stat()
	return err == nil && failed == nil && os.SameFile(file, info)
}

// printError writes an error that has not been logged yet.
func (a *app) printError(err error) {
	text := report.Error(err)
	if text == "" {
		return
	}
	if a.logsJSON() {
		attrs := []any{"event", "error", "exit_code", exit.Code(err)}
		if at := exit.RetryAt(err); !at.IsZero() {
			attrs = append(attrs, "retry_at", at)
		}
		a.logger(a.stderr).Error(text, attrs...)
		return
	}
	now, at := time.Now(), exit.RetryAt(err)
	refused, _ := breakers.Refusal(err) // may be another instant
	a.printText(report.Local(text, now, at, refused))
	if hint := a.later(err, now); hint != "" {
		a.printText(report.Line(hint))
	}
}

// root returns the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "perdure COMMAND",
		Short:         "Make calls outlast failures, without making the failures worse",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			return a.start(c)
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetUsageFunc(help.Usage)
	root.SetFlagErrorFunc(help.FlagError)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "write events and results as JSON, one object per line; implies --log-format json and --log-level debug")
	root.PersistentFlags().StringVar(&a.level, "log-level", "", "minimum log `level`: debug, info, warn or error (info)")
	root.PersistentFlags().StringVar(&a.logFormat, "log-format", "", "`format` of log lines and errors: text, time (text after the local time) or json (text)")
	root.PersistentFlags().BoolP("help", "h", false, "show this help")
	root.Flags().Bool("version", false, "print the version")
	for _, flags := range []*pflag.FlagSet{root.PersistentFlags(), root.Flags()} {
		flags.VisitAll(func(f *pflag.Flag) { f.Annotations = map[string][]string{policy.Group: {"Other"}} })
	}
	cobra.EnableCommandSorting = false // help lists the commands in the order below
	help.Group(root,
		a.runCommand(),
		a.copyCommand(),
		a.syncCommand(),
		a.proxyCommand(),
		a.s3Command(),
		a.checkCommand(),
		a.planCommand(),
		a.simulateCommand(),
		a.statusCommand(),
		a.breakerCommand(),
		a.demoCommand(),
		a.manCommand(),
		a.versionCommand(),
		help.Policy(),
		help.ExitCodes(),
	)
	help.Complete(root)
	for _, c := range root.Commands() {
		completeWords(c)
	}
	return root
}

// completeWords adds shell completion for flags whose values are a few words.
func completeWords(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if words := f.Annotations[policy.Words]; len(words) > 0 {
			_ = c.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		}
	})
}

// start checks the flags that all commands have. It is called before a command runs.
func (a *app) start(c *cobra.Command) error {
	if err := help.Filled(c); err != nil {
		return err
	}
	if _, err := a.threshold(); err != nil {
		return err
	}
	if _, err := a.format(); err != nil {
		return err
	}
	a.log = a.logger(a.stderr)
	log.SetOutput(io.Discard) // net/http quotes in package log what a server sends unasked: that may hold secrets
	a.command = c
	return nil
}

// threshold returns the minimum log level. The default is debug with --json, else info.
func (a *app) threshold() (slog.Level, error) {
	level, source := slog.LevelInfo, "--log-level"
	if a.json {
		level = slog.LevelDebug
	}
	text := a.level
	if text == "" {
		text, source = a.getenv("PERDURE_LOG_LEVEL"), "PERDURE_LOG_LEVEL"
	}
	if text == "" {
		return level, nil
	}
	for _, known := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(known.String(), text) {
			return known, nil
		}
	}
	return level, setting.Unknown(source, text, []string{"debug", "info", "warn", "error"})
}

// getenv returns the value of an environment variable.
func (a *app) getenv(name string) string {
	for _, pair := range a.environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// settings returns the settings of a command, with the preset default unless the user
// has set another.
func (a *app) settings(f *policy.Flags) (*policy.Settings, error) {
	source, err := a.load(f)
	if err != nil {
		return nil, err
	}
	s, err := source.Settings("default")
	if err != nil {
		return nil, exit.UsageError(err)
	}
	return s, nil
}

// load reads the policy file, the environment and the flags.
func (a *app) load(f *policy.Flags) (policy.Source, error) {
	source, warnings, err := f.Load(a.environ)
	for _, w := range warnings {
		a.log.Warn(w, "event", "warning")
	}
	if err != nil {
		return source, exit.UsageError(err)
	}
	return source, nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  help.Exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if !a.json {
				_, err := fmt.Fprintln(a.stdout, version())
				return err
			}
			return json.NewEncoder(a.stdout).Encode(struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{versionNumber(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
		},
	}
}

// release is the version of a released binary, which the linker sets.
var release string //nolint:gochecknoglobals // -ldflags -X needs a variable

// versionNumber returns the release of the binary, or else the version of its module.
func versionNumber() string {
	text := release
	if info, ok := debug.ReadBuildInfo(); ok && text == "" {
		text = info.Main.Version
	}
	return cmp.Or(text, "(devel)")
}

// version returns one line about the binary.
func version() string {
	return fmt.Sprintf("perdure %s (%s, %s/%s)", versionNumber(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
