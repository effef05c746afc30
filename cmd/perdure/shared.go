package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/promtext"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/run"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/state"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	shared "github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

func (a *app) statusCommand() *cobra.Command {
	var f *policy.Flags
	watch, prometheus := false, false
	var file metricsFile
	c := &cobra.Command{
		Use:   "status [flags]",
		Short: "Show the circuit breakers that commands share",
		Long: `Show the circuit breakers of run --name and copy, which all processes of this user share. SINCE and WHY
say when and why the state last changed. NEXT PROBE is when the next call passes, or which process has a
probe in flight. NOT BEFORE is until when servers have asked not to be called. BUDGET is the balance of
the retry budget, if it has been used. If hosts share the store, the server is queried about these breakers.

State files of other versions of perdure are listed below the table: they are not shared with this one.

It changes nothing and creates no file. With --json, each snapshot is one object per line. With --prometheus, it is
what all processes have counted for each key, in Prometheus' text format 0.0.4; with
--metrics-file, it is written to that file of run and copy, whose numbers of these keys it replaces.`,
		Args: help.Exactly(0, "none"),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.settings(f)
			if err != nil {
				return err
			}
			toFile := c.Flags().Changed("metrics-file")
			switch {
			case prometheus && (watch || a.json):
				return setting.Bad("--prometheus", "true", "used without --watch and --json")
			case toFile && (watch || a.json || prometheus):
				return setting.Bad("--metrics-file", file.path, "used without --watch, --json and --prometheus")
			case toFile:
				return s.AtSource(a.statusTo(c.Context(), s.Store, &file))
			case watch:
				return s.AtSource(a.watch(c.Context(), s.Store))
			}
			return s.AtSource(a.status(c.Context(), s.Store, prometheus, a.warnFleet))
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "repeat each second, until ctrl-C")
	c.Flags().BoolVar(&prometheus, "prometheus", false, "write metrics in Prometheus' text format")
	addMetricsFile(c.Flags(), &file)
	f = policy.AddStore(c.Flags())
	return c
}

// status writes a snapshot of the store, as metrics if prometheus is set. warn is called if
// the fleet's server does not respond.
func (a *app) status(ctx context.Context, store string, prometheus bool, warn func(error)) error {
	snapshot, err := take(ctx, store, warn)
	if err != nil {
		return err
	}
	switch {
	case prometheus:
		return snapshot.WritePrometheus(a.stdout)
	case a.json:
		return snapshot.WriteJSON(report.ForJSON(a.stdout))
	}
	return snapshot.WriteTable(a.stdout)
}

// take returns a snapshot of the store, with the fleet's state if hosts share it.
func take(ctx context.Context, store string, warn func(error)) (*state.Snapshot, error) {
	snapshot, err := state.Take(store)
	if err != nil {
		return nil, err
	}
	err = snapshot.QueryFleet(ctx, store)
	if _, bad := errors.AsType[*setting.Error](err); bad {
		return nil, err
	} else if err != nil && ctx.Err() == nil {
		warn(err)
	}
	return snapshot, nil
}

// statusTo replaces the metrics of all breakers in the file by those of a snapshot.
func (a *app) statusTo(ctx context.Context, store string, file *metricsFile) error {
	if err := file.prepare(a); err != nil {
		return err
	}
	err := promtext.AddTo(ctx, file.path, func() (_, shared []metrics.Family, err error) {
		snapshot, err := take(ctx, store, a.warnFleet)
		if err != nil {
			return nil, nil, err
		}
		return nil, snapshot.Metrics(nil).Families, nil
	})
	if _, bad := errors.AsType[*setting.Error](err); err != nil && !bad {
		return fmt.Errorf("%s: %s", file.path, reason(err))
	}
	return err
}

func (a *app) warnFleet(err error) {
	text := "Shared store unreachable (" + err.Error() + "); showing this host's state"
	if unshared, ok := errors.AsType[*shared.UnsharedError](err); ok {
		text = "A circuit breaker is not shared with the fleet (" + unshared.Error() + "); showing this host's state of it"
	}
	a.log.Warn(text, "event", "warning", "error", err)
}

// watch writes a snapshot each second, on a terminal in place of the last one.
func (a *app) watch(ctx context.Context, store string) error {
	ctx, stop := exit.OnSignal(ctx)
	defer stop()
	terminal := term.IsTerminal(int(a.stdout.Fd())) && a.getenv("TERM") != "dumb"
	var first sync.Once
	warn := func(err error) { first.Do(func() { a.warnFleet(err) }) }
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		switch {
		case a.json:
		case terminal:
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J") // cursor to the top left, clear the screen
			fallthrough
		default:
			fmt.Fprintln(a.stdout, time.Now().Format("2006-01-02 15:04:05 MST"))
		}
		if err := a.status(ctx, store, false, warn); err != nil {
			return err
		}
		if !a.json && !terminal {
			fmt.Fprintln(a.stdout)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return &exit.Error{Code: exit.Code(context.Cause(ctx))} // the user has ended it: no message
		}
	}
}

func (a *app) breakerCommand() *cobra.Command {
	c := help.Group(&cobra.Command{
		Use:   "breaker COMMAND NAME",
		Short: "Trip, isolate or reset a shared circuit breaker",
		Long: `Change the state of a circuit breaker for all commands that share it. NAME is a key that perdure status
shows, or the name of an operation (load means op:load); isolate also takes one that no command has used yet.`,
		DisableFlagsInUseLine: true,
	})
	for _, action := range state.Actions() {
		c.AddCommand(a.actionCommand(action))
	}
	return c
}

func (a *app) actionCommand(action state.Action) *cobra.Command {
	var f *policy.Flags
	c := &cobra.Command{
		Use:               action.Name + " NAME",
		Short:             action.Short,
		ValidArgsFunction: a.completeKeys,
		Args:              help.Exactly(1, "one: the NAME of a circuit breaker"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.settings(f)
			if err != nil {
				return err
			}
			return s.AtSource(a.act(c.Context(), action, s.Store, args[0]))
		},
	}
	f = policy.AddStore(c.Flags())
	return c
}

// act applies an action to the breaker of that name.
func (a *app) act(ctx context.Context, action state.Action, text, name string) error {
	snapshot, err := state.Take(text)
	if err != nil {
		return err
	}
	key, err := a.keyOf(snapshot, action, name)
	if err != nil {
		return err
	}
	store, err := state.Open(text, a.log)
	if err != nil {
		return err
	}
	defer store.Close()
	if was, is := action.Do(ctx, store, key, a.log); was == is {
		text := fmt.Sprintf("Circuit breaker '%s' is already %v", key, is)
		if is == circuit.Closed { // after a reset
			text += "; its failures and budget are cleared"
		}
		a.log.Info(text, "event", "unchanged", "breaker", key, "state", is.String())
	}
	return nil
}

// keyOf returns the key of that name, which must exist unless the action is for new ones too.
func (a *app) keyOf(snapshot *state.Snapshot, action state.Action, name string) (string, error) {
	if !action.New {
		return snapshot.Find(name)
	}
	key, near, found := snapshot.FindOrNew(name)
	if !found {
		text := fmt.Sprintf("No command has used circuit breaker '%s' yet", key)
		if near != "" {
			text += "; did you mean " + near + "?"
		}
		a.log.Info(text, "event", "new", "breaker", key)
	}
	return key, nil
}

// completeKeys returns the keys of the store, for shell completion of NAME.
func (a *app) completeKeys(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	snapshot, err := state.Take(a.getenv("PERDURE_STORE"))
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var keys []string
	for _, key := range snapshot.Keys {
		name, operation := strings.CutPrefix(key, state.Of(""))
		switch {
		case report.Line(key) != key: // the shell would split it into two words
		case strings.HasPrefix(key, begun):
			keys = append(keys, key)
		case operation && strings.HasPrefix(name, begun):
			keys = append(keys, name)
		}
	}
	return keys, cobra.ShellCompDirectiveNoFileComp
}

// addWait adds the flags --wait and --on-open.
func (a *app) addWait(flags *pflag.FlagSet, at *time.Duration) {
	a.addOnOpen(flags)
	flags.Var(policy.Wait(at), "wait", "`seconds` to wait while a circuit breaker is open or after Retry-After (do not wait)")
}

// addOnOpen adds the flag --on-open.
func (a *app) addOnOpen(flags *pflag.FlagSet) {
	flags.StringVar(&a.onOpen, "on-open", "", "`command` for the shell, run once when this process has opened a circuit breaker; see docs/shared-state.md")
}

// hook returns the hook of --on-open, which logs to log. Its Close must be called at the end.
func (a *app) hook(ctx context.Context, log *slog.Logger) (*run.Hook, error) {
	return run.NewHook(ctx, a.onOpen, a.environ, a.stderr, log)
}

// atGate returns how long an operation of p waits at the gate of its breaker: MaxDelay, or
// 0 if p has MaxElapsed, which then limits the wait.
func atGate(p *retry.Policy) time.Duration {
	if p.MaxElapsed > 0 {
		return 0
	}
	return p.MaxDelay
}

// waiter returns a Waiter that waits for at most limit, and logs each wait.
func (a *app) waiter(limit time.Duration) *wait.Waiter {
	return &wait.Waiter{Max: limit, OnWait: func(r wait.Refusal) {
		text := "Waiting: a server sent Retry-After"
		switch {
		case r.Open != nil:
			text = fmt.Sprintf("Waiting: circuit breaker '%s' is %v", r.Open.Name, r.Open.State)
		case r.Limit != nil:
			text = fmt.Sprintf("Waiting: %v limit of '%s' is reached", r.Limit.Limit, r.Limit.Name)
		}
		attrs := []any{"event", "waiting", "wait", limit}
		if !r.RetryAt.IsZero() {
			text += ", until " + report.Instant(r.RetryAt, time.Now())
			attrs = append(attrs, "retry_at", r.RetryAt)
		}
		a.log.Info(text, attrs...)
	}}
}
