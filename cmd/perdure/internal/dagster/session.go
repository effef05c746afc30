// Package dagster lets a command report to Dagster when that has started it:
// what it logs, how its retries went, what it has made, and how it ended.
//
// Dagster's reader dies of a message that it can't take, and the step succeeds
// all the same: so everything that is sent goes through package pipes, which
// can't make one. What can't be sent never changes how the command ends.
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

// A Session is a command's conversation with Dagster. A nil *Session is that of
// a command that Dagster has not started: its methods do nothing. It is safe for
// concurrent use.
type Session struct {
	pipes *pipes.Session
	ended chan struct{} // all is told
	end   sync.Once

	asset string // that the command makes; "" is none, or it is not known which

	mu    sync.Mutex
	lines int // of the log that were sent
}

// Launched reports whether Dagster has started a process with that environment.
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

// Open begins a session if Dagster has started the process. It is nil if not,
// and also with an error: the environment is not as it should be, which is no
// reason not to do the work.
func Open(ctx context.Context, environ []string, stdout, stderr io.Writer) (*Session, error) {
	if !Launched(environ) {
		return nil, nil //nolint:nilnil // as said
	}
	p, err := pipes.Open(ctx, pipes.Config{LookupEnv: lookup(environ), Stdout: stdout, Stderr: stderr})
	if err != nil {
		return nil, err
	}
	s := &Session{pipes: p, ended: make(chan struct{})}
	if key, err := p.Context.AssetKey(); err == nil {
		s.asset = key
	}
	p.CountRetries(nil) // there is an outcome, even if nothing was tried
	go s.watch()
	return s, nil
}

// StdoutInUse is the standard output of a command that writes data there: it takes
// no message, which would be taken for a part of the data.
type StdoutInUse struct{}

// Write says why there are no messages.
func (StdoutInUse) Write([]byte) (int, error) {
	return 0, errors.New("DAGSTER_PIPES_MESSAGES points to stdout, which carries the data: " +
		"let it name a file or stderr, or let the data go elsewhere")
}

// SelectAsset says which of the step's assets the command makes; "" is the only one.
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

// Observe returns an observer that counts for the outcome, and passes on to
// next. The breaker, which may be nil, is part of the outcome.
func (s *Session) Observe(b *circuit.Breaker, next func(context.Context, retry.Event)) func(context.Context, retry.Event) {
	if s == nil {
		return next
	}
	count := s.pipes.CountRetries(b)
	return func(ctx context.Context, e retry.Event) {
		count(ctx, e)
		next(ctx, e)
		if told, ok := errors.AsType[*pipes.RemoteError](e.Err); ok && e.Kind == retry.Retrying {
			s.warn(fmt.Sprintf("attempt %d: the command's exception: %s", e.Attempt, describe(told)))
		}
	}
}

// RecordBreakers says which breakers there were: the outcome has the first that is not
// closed, or the first.
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

// Materialize reports that the command's asset was made, if there is one.
func (s *Session) Materialize(m pipes.Metadata) {
	if s == nil || s.asset == "" {
		return
	}
	if err := s.pipes.Materialize(pipes.Materialization{AssetKey: s.asset, Metadata: m}); err != nil {
		s.warn(err.Error())
	}
}

// Close ends the session of a command that ends with err.
func (s *Session) Close(err error) {
	if s == nil {
		return
	}
	s.pipes.Close(withExitCode(err))
	s.end.Do(func() { close(s.ended) })
}

// final returns err as package pipes understands it: with the code that the
// process exits with, and the mark of its class if only the code tells that.
func withExitCode(err error) error {
	if _, panicked := errors.AsType[*pipes.PanicError](err); err == nil || panicked {
		return err
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

// A exhaustedError error is one that another run of the command may get over.
type exhaustedError struct{ err error }

func (e *exhaustedError) Error() string   { return e.err.Error() }
func (e *exhaustedError) Unwrap() []error { return []error{e.err, retry.ErrExhausted} }

// Panicked ends the session of a command that has panicked with that value.
func (s *Session) Panicked(value any, stack []byte) {
	s.Close(&pipes.PanicError{Value: value, Stack: string(stack)})
}

// How long the command may go on after a signal, and then its last messages may
// take: Dagster leaves an orphan behind after 20 s.
const (
	limit     = 15 * time.Second
	lastWords = 2 * time.Second
)

// watch sees to it that after a signal the process ends in time, and that none
// but the first has a say: a terminal's ^C comes from there and from Dagster.
func (s *Session) watch() {
	signals := make(chan os.Signal, 1)
	for _, stopping := range exit.Stopping() {
		if !signal.Ignored(stopping) { // as nohup has it
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
	case <-time.After(lastWords):
	case <-s.ended:
	}
	os.Exit(exit.Code(stop))
}

// Logger returns a logger that also writes to the step's log, from Info on.
func (s *Session) Logger(log *slog.Logger) *slog.Logger {
	if s == nil {
		return log
	}
	return slog.New(teeHandler{log.Handler(), s})
}

// maxLines is how many lines the step's log gets at most: each is a row in
// Dagster's database. They are on standard error, too.
const maxLines = 1000

// A teeHandler is the command's own handler, which writes to the step's log as well.
type teeHandler struct {
	slog.Handler

	session *Session
}

func (h teeHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.Handler.Enabled(ctx, level)
}

func (h teeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return teeHandler{h.Handler.WithAttrs(attrs), h.session}
}

func (h teeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		h.session.line(r)
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// line writes a record to the step's log. How far a copy has come is left out.
func (s *Session) line(r slog.Record) {
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
		_ = s.pipes.Log(r.Level, report.Message(r)) // it is text, so it can be sent
	case sent == maxLines:
		s.warn("the step's log is full: further lines are on standard error only")
	}
}

func (s *Session) warn(text string) { _ = s.pipes.Log(slog.LevelWarn, text) }
