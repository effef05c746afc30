// Contract is the program that Dagster runs in the tests of the protocol. It has the
// flags of dagster-pipes-tests, the suite that Pipes libraries share: its later
// releases name the test, earlier ones had a flag for each test. The test names that
// Contract adds are in [options.ours].
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/pipesjson"
	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

// options are the flags. The paths name JSON files.
type options struct {
	name, context, messages, job         string
	extras, payload, materialized, check string // paths
	metadata                             string // path of {label: {type, raw_value}}, for both reports
	loader, writer                       string // "s3": blobs in the directory PERDURE_BLOBS
	url                                  string // the server that "retries" calls
	threshold                            int    // FailureThreshold of the server's breaker
	full, fail, logging                  bool   // flags of earlier releases
}

func main() {
	var o options
	flag.StringVar(&o.name, "test-name", "", "what to do")
	flag.StringVar(&o.context, "context", "", "the packed context parameters")
	flag.StringVar(&o.messages, "messages", "", "the packed messages parameters")
	flag.StringVar(&o.job, "job-name", "", "the job's name that is expected")
	flag.StringVar(&o.extras, "extras", "", "the extras that are expected")
	flag.StringVar(&o.payload, "custom-payload", "", "what to send as a custom message")
	flag.StringVar(&o.materialized, "report-asset-materialization", "", "the materialization to report")
	flag.StringVar(&o.check, "report-asset-check", "", "the check to report")
	flag.StringVar(&o.metadata, "metadata", "", "the metadata of both")
	flag.StringVar(&o.loader, "context-loader", "", "s3: the context is a blob")
	flag.StringVar(&o.writer, "message-writer", "", "s3: messages go to blobs")
	flag.StringVar(&o.url, "url", "", "the server to call")
	flag.IntVar(&o.threshold, "threshold", 0, "failures that open the server's breaker")
	flag.StringVar(&o.payload, "custom-payload-path", "", "as custom-payload")
	flag.Bool("env", true, "ignored: without flags the parameters are in the environment")
	flag.BoolVar(&o.full, "full", false, "send a greeting as a custom message")
	flag.BoolVar(&o.fail, "throw-error", false, "as test_error_reporting")
	flag.BoolVar(&o.logging, "logging", false, "as test_message_log")
	flag.Parse()
	o.name, _, _ = strings.Cut(o.name, "[") // the parameters of the test follow
	o.full = o.full || o.name == "test_components"
	o.fail = o.fail || o.name == "test_error_reporting"
	o.logging = o.logging || o.name == "test_message_log"
	os.Exit(o.config().Run(o.work))
}

func (o *options) config() pipes.Config {
	var c pipes.Config
	if o.context != "" {
		c.Args = append(c.Args, "--dagster-pipes-context="+o.context)
	}
	if o.messages != "" {
		c.Args = append(c.Args, "--dagster-pipes-messages="+o.messages)
	}
	blobs := pipes.Files{Root: os.Getenv("PERDURE_BLOBS")}
	if o.loader == "s3" {
		c.Context = blobs
	}
	if o.writer == "s3" {
		c.Messages = blobs
	}
	return c
}

func (o *options) work(ctx context.Context, s *pipes.Session) error {
	if err := o.expect(s); err != nil {
		return err
	}
	if o.full {
		if err := s.Custom("Hello from external process!"); err != nil {
			return err
		}
	}
	switch {
	case o.fail:
		return errors.New("Very bad error has happened!") //nolint:staticcheck,revive // as the suite wants it
	case o.logging:
		return logs(s)
	case o.payload != "":
		var p struct{ Payload any }
		return errors.Join(load(o.payload, &p), s.Custom(p.Payload))
	case o.materialized != "":
		return o.materialize(s)
	case o.check != "":
		return o.report(s)
	}
	return o.ours(ctx, s)
}

// ours runs the tests that dagster-pipes-tests does not have.
func (o *options) ours(ctx context.Context, s *pipes.Session) error {
	switch o.name {
	case "everything":
		return everything(s)
	case "retries":
		return o.retries(ctx, s)
	case "stdio":
		return stdio(s)
	case "wait":
		fmt.Fprintln(os.Stdout, "waiting", os.Getpid())
		<-ctx.Done()
		return ctx.Err()
	default:
		return nil
	}
}

// load decodes a JSON file, numbers as [json.Number].
func load(name string, into any) error {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	d := json.NewDecoder(f)
	d.UseNumber()
	return d.Decode(into)
}

// expect compares the context with the flags.
func (o *options) expect(s *pipes.Session) error {
	if job := s.Context.JobName; o.job != "" && (job == nil || *job != o.job) {
		return fmt.Errorf("job name %v, want %q", job, o.job)
	}
	if o.extras == "" {
		return nil
	}
	want := map[string]any{}
	if err := load(o.extras, &want); err != nil {
		return err
	}
	got := map[string]any{}
	for name, text := range s.Context.Extras {
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			return err
		}
		got[name] = v
	}
	text, err := json.Marshal(want)
	if err != nil {
		return err
	}
	want = map[string]any{}
	if err := json.Unmarshal(text, &want); err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("extras %v, want %v", got, want)
	}
	return nil
}

func (o *options) values() (pipes.Metadata, error) {
	if o.metadata == "" {
		return nil, nil
	}
	var read map[string]struct {
		Type string `json:"type"`
		Raw  any    `json:"raw_value"`
	}
	err := load(o.metadata, &read)
	m := pipes.Metadata{}
	for label, v := range read {
		m[label] = pipes.Typed(v.Type, v.Raw)
	}
	return m, err
}

func (o *options) materialize(s *pipes.Session) error {
	var m struct{ DataVersion, AssetKey string }
	values, err := o.values()
	return errors.Join(err, load(o.materialized, &m),
		s.Materialize(pipes.Materialization{AssetKey: m.AssetKey, DataVersion: m.DataVersion, Metadata: values}))
}

func (o *options) report(s *pipes.Session) error {
	var c struct {
		CheckName, AssetKey string
		Passed              bool
		Severity            pipes.Severity
	}
	values, err := o.values()
	if err = errors.Join(err, load(o.check, &c)); err != nil {
		return err
	}
	return s.Check(pipes.Check{AssetKey: c.AssetKey, Name: c.CheckName, Passed: c.Passed, Severity: c.Severity, Metadata: values})
}

func logs(s *pipes.Session) error {
	log := s.Logger()
	log.Info("Info message")
	log.Warn("Warning message")
	log.Error("Error message")
	return errors.Join(s.Log(-4, "Debug message"), s.Log(pipes.LevelCritical, "Critical message"))
}

// everything reports a value of each constructor, and the example of each kind.
func everything(s *pipes.Session) error {
	columns := []pipes.Column{{Name: "a", Type: "int", NotNull: true, Tags: map[string]string{"k": "v"}}, {Name: "b", Description: "d"}}
	metadata := pipes.Metadata{
		"text": pipes.Text("é ☃ 😀"), "md": pipes.Markdown("# m"), "url": pipes.URL("https://u:p@h/?sig=x"), "path": pipes.Path("/p"),
		"notebook": pipes.Notebook("n.ipynb"), "bool": pipes.Bool(true), "int": pipes.Int(1 << 62), "float": pipes.Float(100),
		"large": pipes.Float(1e21), "seconds": pipes.Seconds(1500 * time.Millisecond), "timestamp": pipes.Timestamp(time.Unix(1700000000, 0)),
		"null": pipes.Null(), "run": pipes.DagsterRun("00000000-0000-0000-0000-000000000000"), "asset": pipes.Asset("a/b"),
		"json": pipes.JSON(map[string]any{"a": []int{1}}), "infer": pipes.Infer(100.0), "list": pipes.Infer([]int{1}), "": pipes.Int(0),
		"table":   pipes.Table(columns, []map[string]any{{"a": 1, "b": nil}, {"a": 2.5, "b": "x"}}),
		"schema":  pipes.TableSchema(columns...),
		"lineage": pipes.ColumnLineage(map[string][]pipes.ColumnDep{"a": {{AssetKey: "raw/x", Column: "k"}}}),
	}
	for _, k := range pipesjson.Kinds() {
		metadata["example "+k.Name] = pipes.Typed(k.Name, json.RawMessage(k.Example))
	}
	err := s.Materialize(pipes.Materialization{DataVersion: "v1", Metadata: metadata})
	deep := any(1)
	for range 55 {
		deep = []any{deep}
	}
	return errors.Join(err,
		s.Check(pipes.Check{Name: "my_check", Severity: pipes.SeverityWarn, Metadata: pipes.Metadata{"rows": pipes.Int(0), "deep": pipes.JSON(deep)}}),
		s.Custom(map[string]any{"float": 1.0, "text": "\x00\xff😀", "null": nil, "deep": deep}))
}

// stdio writes a line to each standard stream.
func stdio(s *pipes.Session) error {
	for _, name := range []string{pipes.Stdout, pipes.Stderr} {
		w, err := s.Stream(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "to %s é\n", name)
	}
	return nil
}

// retries calls the server with retries.
func (o *options) retries(ctx context.Context, s *pipes.Session) error {
	b := circuit.New("server", circuit.Config{FailureThreshold: o.threshold, Observe: circuit.LogTo(s.Logger())})
	p := retry.Policy{
		Name: "fetch", MaxAttempts: 3, BaseDelay: time.Millisecond, Jitter: retry.NoJitter,
		MaxRetryAfter: time.Millisecond, Breaker: b, Observe: s.Observe(b),
	}
	return retry.Do(ctx, &p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
			return statusError{resp.StatusCode, time.Duration(after) * time.Second}
		}
		return nil
	})
}

// statusError is a response with another status than 200.
type statusError struct {
	status int
	after  time.Duration
}

func (e statusError) Error() string                     { return fmt.Sprint("status ", e.status) }
func (e statusError) HTTPStatusCode() int               { return e.status }
func (e statusError) RetryAfter() (time.Duration, bool) { return e.after, e.after > 0 }
