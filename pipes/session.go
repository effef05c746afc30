// Package pipes implements the external-process side of Dagster Pipes: a process
// that a Dagster step has started reads the step's context, and reports log lines,
// materializations, checks and its outcome.
//
//	func main() {
//		os.Exit(pipes.Run(func(ctx context.Context, s *pipes.Session) error {
//			upload := retry.S3Upload()
//			upload.Observe = s.Observe(upload.Breaker) // each retry is a line in Dagster's log
//			if err := retry.Do(ctx, &upload, work); err != nil {
//				return err
//			}
//			return s.Materialize(pipes.Materialization{Metadata: pipes.Metadata{"rows": pipes.Int(17379)}})
//		}))
//	}
//
// Dagster's reader stops silently at a message that it cannot read, and the step
// succeeds without its reports. Therefore this package sends no such message: the
// call that would report it returns an error. A message that cannot be written is
// lost, with one warning on standard error, and changes nothing else.
//
// If Dagster has not started the process, all functions work as usual, and nothing is reported.
package pipes

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// The names of the standard streams, for [Session.Stream].
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// ErrClosed is the error of a report after [Session.Close].
var ErrClosed = errors.New("pipes: the session is closed")

// A Config configures a [Session]. The zero Config is for a process that Dagster has
// started on the same machine, as PipesSubprocessClient does.
type Config struct {
	// Context reads the context from a store of blobs. If nil, the context is read
	// from the file or the text in the parameters.
	Context BlobReader
	// Messages writes messages to a store of blobs, from a goroutine of the session.
	// If nil, messages go to the file or the stream that the parameters name.
	Messages BlobWriter
	// Args are command-line arguments. Parameters in --dagster-pipes-context and
	// --dagster-pipes-messages take precedence over the environment.
	Args []string
	// LookupEnv looks up an environment variable. If nil, os.LookupEnv does.
	LookupEnv func(string) (string, bool)
	// Stdout and Stderr receive messages, if Dagster has requested messages on these
	// streams. Stderr also receives warnings. If nil, each is the standard stream of the
	// process.
	Stdout, Stderr io.Writer
	// Grace is how long the work of [Run] may take after a signal; 0 means 12s.
	// Dagster abandons the process after 20s.
	Grace time.Duration
}

// StripEnv returns env, in the form of [os.Environ], without the variables of
// Dagster Pipes: for a child that must not report by itself, because its messages
// would mix with those of this process.
func StripEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return strings.HasPrefix(v, contextVariable+"=") || strings.HasPrefix(v, messagesVariable+"=")
	})
}

// RelayEnv returns env for a child that gets the same context and writes its messages
// to the file path.
func RelayEnv(env []string, path string) []string {
	text, _ := json.Marshal(map[string]string{"path": path}) // a map of strings can be encoded
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write(text) // a write to memory does not fail
	_ = z.Close()
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, messagesVariable+"=") })
	return append(env, messagesVariable+"="+base64.StdEncoding.EncodeToString(packed.Bytes()))
}

// lookup returns the value of a variable, from the arguments or the environment.
func (c *Config) lookup(variable string) (string, bool) {
	flag := "--" + strings.ReplaceAll(strings.ToLower(variable), "_", "-")
	for i, arg := range c.Args {
		if arg == flag && i+1 < len(c.Args) {
			return c.Args[i+1], true
		}
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value, true
		}
	}
	if c.LookupEnv != nil {
		return c.LookupEnv(variable)
	}
	return os.LookupEnv(variable)
}

func (c *Config) stdout() io.Writer {
	if c.Stdout != nil {
		return c.Stdout
	}
	return os.Stdout
}

func (c *Config) stderr() io.Writer {
	if c.Stderr != nil {
		return c.Stderr
	}
	return os.Stderr
}

// open returns the sink that p names. A wrong parameter is an error. The sink opens
// its file at the first message.
func (c *Config) open(ctx context.Context, p params) (sink, error) {
	if c.Messages != nil {
		bucket, prefix, err := p.blob(prefixKey)
		if err != nil {
			return nil, err
		}
		return newBlobs(ctx, c.Messages, bucket, prefix), nil
	}
	switch {
	case p.has("path"):
		name, err := p.text("path")
		if err != nil {
			return nil, err
		}
		return &file{name: name}, nil
	case p.has("stdio"):
		w, err := c.stream(p, "stdio")
		if err != nil {
			return nil, err
		}
		return w, nil
	case p.has("buffered_stdio"):
		w, err := c.stream(p, "buffered_stdio")
		if err != nil {
			return nil, err
		}
		return &buffered{to: w}, nil
	default:
		return nil, fmt.Errorf(`%s has neither "path" nor "stdio" nor "buffered_stdio"`, p.name)
	}
}

// stream returns the standard stream that the parameter key names.
func (c *Config) stream(p params, key string) (*standard, error) {
	name, err := p.text(key)
	if err != nil {
		return nil, err
	}
	switch name {
	case Stdout:
		return newStandard(Stdout, c.stdout()), nil
	case Stderr:
		return newStandard(Stderr, c.stderr()), nil
	default:
		return nil, fmt.Errorf("%s: invalid value %q for %q: must be stdout or stderr", p.name, name, key)
	}
}

// A Session reports to Dagster; [Open] or [Run] makes it. The zero Session, as of a
// process that Dagster has not started, reports nothing. The methods are safe for
// concurrent use. They return when their message is written, except where Dagster
// asked for messages in blobs or at the end of the session.
type Session struct {
	// Context describes the step. The session does not change it.
	Context Context

	config  Config
	include bool // Dagster asked for the text of the standard streams as messages

	out     sink      // nil if Dagster has not started the process
	shared  *standard // the standard stream that out writes to; nil if it writes to none
	end     sync.Once
	tally   tally // counts retries
	streams [2]stream

	mu     sync.Mutex // guards the fields below, and calls of out
	closed bool
	warned bool
	made   map[string]bool // assets that were materialized
}

// Open opens a session: it reads the context, within ctx if the context is a blob, and
// reports that the process has started. If Dagster has not started the process, Open
// writes a line to c.Stderr and returns no error.
//
// The Session is never nil. With an error it reports nothing, for a program that
// does its work also unreported.
func Open(ctx context.Context, c Config) (*Session, error) {
	packed, ok := c.lookup(contextVariable)
	if !ok {
		fmt.Fprintf(c.stderr(), "pipes: not started by Dagster (%s is not set): nothing is reported\n", contextVariable)
		return &Session{config: c}, nil
	}
	s := &Session{config: c, made: map[string]bool{}}
	if err := s.open(ctx, packed); err != nil {
		return &Session{config: c}, err
	}
	return s, nil
}

// open reads all parameters and the context before it writes anything.
func (s *Session) open(ctx context.Context, packed string) error {
	from, err := unpack(contextVariable, packed)
	if err != nil {
		return err
	}
	packed, ok := s.config.lookup(messagesVariable)
	if !ok {
		return fmt.Errorf("pipes: %s is set, but %s is not", contextVariable, messagesVariable)
	}
	to, err := unpack(messagesVariable, packed)
	if err != nil {
		return err
	}
	if s.include, err = to.flag("include_stdio_in_messages"); err != nil {
		return fmt.Errorf("pipes: %w", err)
	}
	if s.Context, err = loadContext(ctx, from, s.config.Context); err != nil {
		return err
	}
	if s.out, err = s.config.open(ctx, to); err != nil {
		return fmt.Errorf("pipes: %w", err)
	}
	switch out := s.out.(type) {
	case *standard:
		s.shared = out
	case *buffered:
		s.shared = out.to
	}
	return s.send("opened", object{{"extras", object{}}})
}

// Launched reports whether Dagster has started the process.
func (s *Session) Launched() bool { return s.out != nil }

// ForwardsStdio reports whether text for the standard streams must go through the
// writers of [Session.Stream], because Dagster asked for the text as messages, or for
// messages on a standard stream.
func (s *Session) ForwardsStdio() bool { return s.include || s.shared != nil }

// send encodes and writes a message. A message that can't be encoded and a closed
// session are errors; a failed write is a warning.
func (s *Session) send(method string, params any) error {
	line, err := message(method, params)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(line)
}

// write writes a line to the sink. The caller holds s.mu.
func (s *Session) write(line []byte) error {
	switch {
	case s.closed:
		return ErrClosed
	case s.out != nil:
		s.warn(s.out.write(line))
	}
	return nil
}

// warn writes a warning that messages are lost, once. The caller holds s.mu.
func (s *Session) warn(err error) {
	if err != nil && !s.warned {
		s.warned = true
		fmt.Fprintf(s.config.stderr(), "pipes: messages to Dagster are lost: %s\n", redact.String(text(err)))
	}
}
