// Package dagster reports a command's log, retries, materializations and outcome to
// Dagster, if Dagster has started the command.
//
// Dagster's reader ends at a message that it cannot read, and the step succeeds
// without its reports. Therefore every message goes through package pipes, which
// makes no such message. A report that fails never changes how the command ends.
package dagster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Session reports a command to Dagster. The methods of a nil *Session, of a
// command that Dagster has not started, do nothing. A Session is safe for
// concurrent use.
type Session struct {
	pipes *pipes.Session
	ended chan struct{} // closed when the session is closed
	end   sync.Once

	asset string // the asset that the command makes; "" if it makes none, or several are possible

	mu    sync.Mutex
	lines int // log lines sent
}

// Launched reports whether Dagster has started the process with that environment.
func Launched(environ []string) bool {
	_, ok := lookup(environ)("DAGSTER_PIPES_CONTEXT")
	return ok
}

func lookup(environ []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, pair := range environ {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

// Open opens a session if Dagster has started the process, and returns nil if not.
// With an error, for an environment that can't be read, the Session is nil too: the
// command can do its work unreported.
func Open(ctx context.Context, environ []string, stdout, stderr io.Writer) (*Session, error) {
	if !Launched(environ) {
		return nil, nil //nolint:nilnil // a nil *Session is valid
	}
	p, err := pipes.Open(ctx, pipes.Config{LookupEnv: lookup(environ), Stdout: stdout, Stderr: stderr})
	if err != nil {
		return nil, err
	}
	s := &Session{pipes: p, ended: make(chan struct{})}
	if key, err := p.Context.AssetKey(); err == nil {
		s.asset = key
	}
	p.CountRetries(nil) // Close reports an outcome, also without an attempt
	go s.watch()
	return s, nil
}

// StdoutInUse refuses messages to a standard output that carries data: among them,
// a message would be read as data.
type StdoutInUse struct{}

// Write returns an error that says where to send messages or data instead.
func (StdoutInUse) Write([]byte) (int, error) {
	return 0, errors.New("DAGSTER_PIPES_MESSAGES points to stdout, which carries the data: " +
		"let it name a file or stderr, or let the data go elsewhere")
}

// SelectAsset sets the asset that the command makes; "" means the step's only asset.
func (s *Session) SelectAsset(key string) error {
	if s == nil || key == "" {
		return nil
	}
	if keys := s.pipes.Context.AssetKeys; len(keys) > 0 && !slices.Contains(keys, key) {
		return setting.Bad("--dagster-asset", key, "one of the step's assets: "+strings.Join(keys, ", "))
	}
	s.asset = key
	return nil
}

// Observe returns an observer that counts events for the outcome and calls next. If
// b is not nil, the outcome has its state.
func (s *Session) Observe(b *circuit.Breaker, next func(context.Context, retry.Event)) func(context.Context, retry.Event) {
	if s == nil {
		return next
	}
	count := s.pipes.CountRetries(b)
	return func(ctx context.Context, e retry.Event) {
		count(ctx, e)
		next(ctx, e)
		if exception, ok := errors.AsType[*pipes.Exception](e.Err); ok && e.Kind == retry.Retrying {
			s.warn(fmt.Sprintf("attempt %d: the command's exception: %s", e.Attempt, describe(exception)))
		}
	}
}

// RecordBreakers puts the state of one breaker into the outcome: of the first that is
// not closed, or of the first.
func (s *Session) RecordBreakers(breakers []*circuit.Breaker) {
	if s == nil {
		return
	}
	for i, b := range breakers {
		open := b.State() != circuit.Closed
		if open || i == 0 {
			s.pipes.CountRetries(b)
		}
		if open {
			return
		}
	}
}

// Materialize reports that the command has made its asset, if it is known.
func (s *Session) Materialize(m pipes.Metadata) {
	if s == nil || s.asset == "" {
		return
	}
	if err := s.pipes.Materialize(pipes.Materialization{AssetKey: s.asset, Metadata: m}); err != nil {
		s.warn(err.Error())
	}
}

// Close closes the session of a command that ended with err.
func (s *Session) Close(err error) {
	if s == nil {
		return
	}
	s.pipes.Close(withExitCode(err))
	s.end.Do(func() { close(s.ended) })
}

// withExitCode returns err with what package pipes needs: the exit code of the
// process, and a mark of err's class if only the code shows the class.
func withExitCode(err error) error {
	if err == nil {
		return nil
	}
	code, reason := exit.Code(err), err
	coded, ok := errors.AsType[*exit.Error](err)
	switch {
	case ok && coded.Logged != nil:
		reason = coded.Logged // the code is the child's
	case code == exit.Failed, code == exit.Usage:
		reason = retry.Permanent(err)
	case code == exit.Unavailable:
		reason = &exhaustedError{err}
	}
	return &exit.Error{Code: code, Err: reason}
}

// An exhaustedError is an error after which another run of the command may succeed.
type exhaustedError struct{ err error }

func (e *exhaustedError) Error() string   { return e.err.Error() }
func (e *exhaustedError) Unwrap() []error { return []error{e.err, retry.ErrExhausted} }

// Panicked closes the session of a command that panicked with that value.
func (s *Session) Panicked(value any, stack []byte) {
	e := &pipes.Exception{Name: "panic", Message: fmt.Sprint(value), Stack: slices.Collect(strings.Lines(string(stack)))}
	e.Cause, _ = value.(error)
	s.Close(&exit.Error{Code: 2, Err: e}) // the exit code of a Go program that panics
}

// How long the command may run after a signal, and closing the session then:
// Dagster abandons the process after 20 s.
const (
	limit      = 15 * time.Second
	closeLimit = 2 * time.Second
)

// watch ends the process in time after a signal. Only the first signal counts: a ^C
// arrives twice, from the terminal and from Dagster.
func (s *Session) watch() {
	signals := make(chan os.Signal, 1)
	for _, stopping := range exit.Stopping() {
		if !signal.Ignored(stopping) { // nohup ignores SIGHUP
			signal.Notify(signals, stopping)
		}
	}
	stop := &exit.Interrupted{}
	select {
	case stop.Signal = <-signals:
	case <-s.ended:
		return
	}
	select {
	case <-time.After(limit):
	case <-s.ended:
		return
	}
	go s.Close(stop)
	select {
	case <-time.After(closeLimit):
	case <-s.ended:
	}
	os.Exit(exit.Code(stop))
}

// Logger returns a logger that writes to log, and records of level Info and above
// also to the step's log.
func (s *Session) Logger(log *slog.Logger) *slog.Logger {
	if s == nil {
		return log
	}
	return slog.New(teeHandler{log.Handler(), s, nil})
}

// maxLines is the limit of lines in the step's log: each is a row in Dagster's
// database. Standard error has all lines.
const maxLines = 1000

// A teeHandler is the command's own handler, and writes to the step's log as well.
type teeHandler struct {
	slog.Handler

	session *Session
	attrs   []slog.Attr // of WithAttrs
}

func (h teeHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.Handler.Enabled(ctx, level)
}

func (h teeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return teeHandler{h.Handler.WithAttrs(attrs), h.session, append(slices.Clip(h.attrs), attrs...)}
}

func (h teeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		h.session.line(r, h.attrs)
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// line writes a record of a logger with these attributes to the step's log, unless it is
// a copy's progress.
func (s *Session) line(r slog.Record, attrs []slog.Attr) {
	progress := false
	r.Attrs(func(a slog.Attr) bool {
		progress = a.Key == "event" && a.Value.String() == "progress"
		return !progress
	})
	if progress {
		return
	}
	s.mu.Lock()
	s.lines++
	sent := s.lines
	s.mu.Unlock()
	switch {
	case sent < maxLines:
		_ = s.pipes.Log(r.Level, report.Message(r, attrs)) // any text can be sent
	case sent == maxLines:
		s.warn("the step's log is full: further lines are on standard error only")
	}
}

func (s *Session) warn(text string) { _ = s.pipes.Log(slog.LevelWarn, text) }
