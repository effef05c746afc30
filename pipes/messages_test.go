package pipes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// Each case opens a session, makes a report, and closes the session with the error of
// the report, as Run does; want are the messages between opened and closed.
func TestMessages(t *testing.T) {
	one, two, none := pipestest.Context("my_asset"), pipestest.Context("a", "b"), pipestest.Context()
	escaped := pipestest.Context(`pre\/fix/name`)
	materialized := func(m Materialization) func(*Session) error {
		return func(s *Session) error { return s.Materialize(m) }
	}
	logged := func(l slog.Level, text string) func(*Session) error {
		return func(s *Session) error { return s.Log(l, text) }
	}
	meta := func(label string, v Value) func(*Session) error {
		return materialized(Materialization{Metadata: Metadata{label: v}})
	}
	custom := func(v any) func(*Session) error { return func(s *Session) error { return s.Custom(v) } }
	checked := func(c Check) func(*Session) error { return func(s *Session) error { return s.Check(c) } }
	all := func(dos ...func(*Session) error) func(*Session) error {
		return func(s *Session) error {
			for _, do := range dos {
				if err := do(s); err != nil {
					return err
				}
			}
			return nil
		}
	}
	const bare = `{"asset_key":"my_asset","data_version":null,"metadata":null}`
	for _, c := range []struct {
		name    string
		context dict
		do      func(*Session) error
		want    []string // method and params
		err     string   // a part of it
	}{
		{"nothing", one, all(), nil, ""},
		{
			"log of any text", one, logged(slog.LevelInfo, "é ☃ 😀 \u2028 \x00 <&> \" \\ \n \t"),
			[]string{`log {"level":"INFO","message":"é ☃ 😀 \u2028 \u0000 <&> \" \\ \n \t"}`},
			"",
		},
		{
			"log levels", one, all(logged(slog.LevelDebug, "d"), logged(slog.LevelInfo, "i"), logged(slog.LevelWarn, "w"),
				logged(slog.LevelError, "e"), logged(LevelCritical, "c"), logged(-100, "x"), logged(slog.LevelInfo+2, "y"), logged(100, "z")),
			[]string{
				`log {"level":"DEBUG","message":"d"}`, `log {"level":"INFO","message":"i"}`, `log {"level":"WARNING","message":"w"}`,
				`log {"level":"ERROR","message":"e"}`, `log {"level":"CRITICAL","message":"c"}`, `log {"level":"DEBUG","message":"x"}`,
				`log {"level":"INFO","message":"y"}`, `log {"level":"CRITICAL","message":"z"}`,
			},
			"",
		},
		{"log of nothing", one, logged(slog.LevelInfo, ""), []string{`log {"level":"INFO","message":""}`}, ""},
		{"log of no UTF-8", one, logged(slog.LevelInfo, "a\xffb\xed\xa0\x80"), []string{`log {"level":"INFO","message":"a\ufffdb\ufffd\ufffd\ufffd"}`}, ""},
		{
			"log of a secret", one, logged(slog.LevelInfo, "GET https://me:hunter2@host/a?X-Amz-Signature=abc&b=c"),
			[]string{`log {"level":"INFO","message":"GET https://REDACTED@host/a?X-Amz-Signature=REDACTED&b=c"}`},
			"",
		},

		{"materialized", one, materialized(Materialization{}), []string{"report_asset_materialization " + bare}, ""},
		{
			"version", one, materialized(Materialization{DataVersion: "alpha"}),
			[]string{`report_asset_materialization {"asset_key":"my_asset","data_version":"alpha","metadata":null}`},
			"",
		},
		{"no metadata", one, materialized(Materialization{Metadata: Metadata{}}), []string{"report_asset_materialization " + bare}, ""},
		{"explicit key", one, materialized(Materialization{AssetKey: "my_asset"}), []string{"report_asset_materialization " + bare}, ""},
		{"wrong key", one, materialized(Materialization{AssetKey: "other"}), nil, `invalid value "other" for asset key: must be one of ["my_asset"]`},
		{
			"twice", one, all(materialized(Materialization{}), materialized(Materialization{AssetKey: "my_asset"})),
			[]string{"report_asset_materialization " + bare},
			"already materialized",
		},
		{"several assets, no key", two, materialized(Materialization{}), nil, `the step makes 2 assets: an asset key is needed, one of ["a" "b"]`},
		{
			"several assets", two, all(materialized(Materialization{AssetKey: "b"}), materialized(Materialization{AssetKey: "a"})),
			[]string{
				`report_asset_materialization {"asset_key":"b","data_version":null,"metadata":null}`,
				`report_asset_materialization {"asset_key":"a","data_version":null,"metadata":null}`,
			},
			"",
		},
		{"no asset, no key", none, materialized(Materialization{}), nil, "the step makes no asset"},
		{
			"no asset, a key", none, materialized(Materialization{AssetKey: "anything"}),
			[]string{`report_asset_materialization {"asset_key":"anything","data_version":null,"metadata":null}`},
			"",
		},
		{
			"escaped key", escaped, materialized(Materialization{}),
			[]string{`report_asset_materialization {"asset_key":"pre\\/fix/name","data_version":null,"metadata":null}`},
			"",
		},

		{
			"check", one, checked(Check{Name: "c", Passed: true}),
			[]string{`report_asset_check {"asset_key":"my_asset","check_name":"c","passed":true,"severity":"ERROR","metadata":null}`},
			"",
		},
		{
			"check that warns", one, checked(Check{Name: "c", Severity: SeverityWarn, Metadata: Metadata{"rows": Int(0)}}),
			[]string{`report_asset_check {"asset_key":"my_asset","check_name":"c","passed":false,"severity":"WARN","metadata":{"rows":{"type":"int","raw_value":0}}}`},
			"",
		},
		{"check of several assets, no key", two, checked(Check{Name: "c"}), nil, "an asset key is needed"},
		{
			"check of several assets", two, checked(Check{AssetKey: "a", Name: "c"}),
			[]string{`report_asset_check {"asset_key":"a","check_name":"c","passed":false,"severity":"ERROR","metadata":null}`},
			"",
		},
		{
			"check twice and after the asset", one, all(checked(Check{Name: "c"}), checked(Check{Name: "c"}), materialized(Materialization{}), checked(Check{Name: "c"})),
			[]string{
				`report_asset_check {"asset_key":"my_asset","check_name":"c","passed":false,"severity":"ERROR","metadata":null}`,
				`report_asset_check {"asset_key":"my_asset","check_name":"c","passed":false,"severity":"ERROR","metadata":null}`,
				"report_asset_materialization " + bare,
				`report_asset_check {"asset_key":"my_asset","check_name":"c","passed":false,"severity":"ERROR","metadata":null}`,
			},
			"",
		},
		{"check without a name", one, checked(Check{}), nil, "no name"},
		{"check with a severity of its own", one, checked(Check{Name: "c", Severity: "warn"}), nil, `invalid value "warn" for severity: must be ERROR or WARN`},

		{
			"custom messages", one, all(custom(dict{"a": nil, "b": []int{1}}), custom(1), custom(1.0), custom("foo"), custom([]any{1, 2.5, "x"}), custom(nil), custom(true),
				custom(json.RawMessage(`{"n":1.0,"s":"\ud800"}`)), custom(struct{ A *int }{})),
			[]string{
				`report_custom_message {"payload":{"a":null,"b":[1]}}`, `report_custom_message {"payload":1}`, `report_custom_message {"payload":1.0}`,
				`report_custom_message {"payload":"foo"}`, `report_custom_message {"payload":[1,2.5,"x"]}`, `report_custom_message {"payload":null}`,
				`report_custom_message {"payload":true}`, `report_custom_message {"payload":{"n":1.0,"s":"\ufffd"}}`, `report_custom_message {"payload":{"A":null}}`,
			},
			"",
		},
		{"custom message that is no JSON", one, custom(make(chan int)), nil, "cannot be written as JSON"},
		{"custom message that is too long", one, custom(strings.Repeat("x", 70_000)), nil, "70"},
		{"custom message that is too deep", one, custom(nested(100)), nil, "levels"},
		{"custom message with itself in it", one, custom(endless()), nil, "levels"},

		{"object to infer from", one, meta("d", Infer(dict{"a": 1})), nil, `metadata "d": map[string]interface {} is an object: use pipes.JSON`},
		{"unknown type", one, meta("d", Typed("duration", 1)), nil, `invalid value "duration" for type`},
		{"type that only the schema knows", one, meta("d", Typed("job", "j")), nil, `invalid value "job" for type`},
		{"JSON that is a string", one, meta("d", JSON("x")), nil, `for type json: must be object or list`},
		{"JSON that is null", one, meta("d", JSON(nil)), nil, `for type json: must be object or list`},
		{"integer with a point", one, meta("d", Typed("int", 3.0)), nil, "invalid value 3.0 for type int: must be integer"},
		{"integer with too many digits", one, meta("d", Infer(new(big.Int).Exp(big.NewInt(10), big.NewInt(5000), nil))), nil, "digits"},
		{"table with a list in it", one, meta("d", Table(nil, []map[string]any{{"a": []int{1}}})), nil, `record 0: column "a" is [1], want a string, a number, true, false or null`},
		{"metadata that is too long", one, meta("d", URL(strings.Repeat("u", 70_000))), nil, "70"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := listen(t, c.context)
			err := c.do(l.Session)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			l.Close(err)
			received := l.received()
			wantClosed(t, received[len(received)-1], err)
			compare(t, received[1:len(received)-1], c.want)
		})
	}
}

func wantClosed(t *testing.T, got pipestest.Message, err error) {
	t.Helper()
	if _, ok := got.Params["exception"]; got.Method != "closed" || ok != (err != nil) {
		t.Errorf("the last message is %v after error %v", got, err)
	}
}

func compare(t *testing.T, got []pipestest.Message, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages %v, want %d: %v", len(got), got, len(want), want)
	}
	for i, line := range want {
		method, params, _ := strings.Cut(line, " ")
		if got[i].Method != method || !reflect.DeepEqual(any(got[i].Params), parse(t, params)) {
			t.Errorf("message %d is %s %v\nwant %s %v", i, got[i].Method, got[i].Params, method, parse(t, params))
		}
	}
}

func nested(levels int) any {
	v := any(1)
	for range levels {
		v = []any{v}
	}
	return v
}

func endless() any {
	m := dict{}
	m["self"] = m
	return m
}

// A long text is cut at the end of a character, and ends with a mark.
func TestLongTextsAreCut(t *testing.T) {
	l := listen(t, pipestest.Context("my_asset"))
	long := strings.Repeat("é", 1<<19) // 1 MiB
	if err := l.Log(slog.LevelInfo, long); err != nil {
		t.Fatal(err)
	}
	if err := l.Materialize(Materialization{Metadata: Metadata{"t": Text(long), "i": Infer(long)}}); err != nil {
		t.Fatal(err)
	}
	l.Close(fmt.Errorf("it failed: %w", errors.New(long)))
	received, logged := l.received(), ""
	for received = received[1:]; received[0].Method == "log"; received = received[1:] {
		logged += received[0].Params["message"].(string)
	}
	for _, text := range []any{
		logged,
		pipestest.Member(pipestest.Member(received[0].Params["metadata"], "t"), "raw_value"), pipestest.Member(pipestest.Member(received[0].Params["metadata"], "i"), "raw_value"),
		pipestest.Member(received[1].Params["exception"], "message"), pipestest.Member(pipestest.Member(received[1].Params["exception"], "cause"), "message"),
	} {
		if s := text.(string); !strings.Contains(s, "é... [cut: 1048") || len(s) > 64<<10 {
			t.Errorf("%d bytes, the end is %q", len(s), s[max(0, len(s)-40):])
		}
	}
}

// A log message longer than a page is sent in parts that end with a line.
func TestLongLogsAreSentInParts(t *testing.T) {
	l := listen(t, pipestest.Context("my_asset"))
	stack := strings.Repeat(strings.Repeat("f", 99)+"\n", 100)
	for _, text := range []string{stack, "short\n"} {
		if err := l.Log(slog.LevelError, text); err != nil {
			t.Fatal(err)
		}
	}
	l.Close(nil)
	var lines []string
	for _, m := range l.received() {
		if m.Method == "log" {
			lines = append(lines, fmt.Sprint(m.Params["level"], " ", m.Params["message"]))
		}
	}
	if want := 100/(maxPart/101) + 2; len(lines) != want || lines[want-1] != "ERROR short\n" {
		t.Fatalf("%d lines, want %d: the last is %q", len(lines), want, lines[len(lines)-1])
	}
	for _, line := range lines[:len(lines)-1] {
		if text := strings.TrimSuffix(strings.TrimPrefix(line, "ERROR "), "\n"); len(text)%100 != 99 {
			t.Errorf("a part of %d bytes that does not end with a line", len(text))
		}
	}
}

// An exception and each of its causes have five fields.
func TestExceptions(t *testing.T) {
	inner := &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), `{"message":"plain","stack":[],"name":"errors.errorString","cause":null,"context":null}`},
		{fmt.Errorf("outer: %w", inner), `{"message":"outer: open x: file does not exist","stack":[],"name":"fmt.wrapError","context":null,"cause":
			{"message":"open x: file does not exist","stack":[],"name":"fs.PathError","context":null,"cause":
			{"message":"file does not exist","stack":[],"name":"errors.errorString","cause":null,"context":null}}}`},
		{errors.Join(errors.New("first"), errors.New("second")), `{"message":"first\nsecond","stack":[],"name":"errors.joinError","context":null,"cause":
			{"message":"first","stack":[],"name":"errors.errorString","cause":null,"context":null}}`},
		{(*fs.PathError)(nil), `{"message":"<nil>","stack":[],"name":"fs.PathError","cause":null,"context":null}`},
		{&url.Error{Op: "Get", URL: "https://u:p@h/?sig=1", Err: errors.New("x")}, `{"message":"Get \"https://REDACTED@h/?sig=REDACTED\": x","stack":[],"name":"url.Error","context":null,"cause":
			{"message":"x","stack":[],"name":"errors.errorString","cause":null,"context":null}}`},
		{round{}, `{"message":"round","stack":[],"name":"pipes.round","context":null,"cause":{"message":"round","stack":[],"name":"pipes.round","context":null,"cause":{"message":"round","stack":[],"name":"pipes.round","context":null,"cause":{"message":"round","stack":[],"name":"pipes.round","context":null,"cause":{"message":"round","stack":[],"name":"pipes.round","context":null,"cause":{"message":"round","stack":[],"name":"pipes.round","context":null,"cause":{"message":"round","stack":[],"name":"pipes.round","context":null,"cause":{"message":"round","stack":[],"name":"pipes.round","context":null,"cause":null}}}}}}}}`},
	} {
		l := listen(t, pipestest.Context("my_asset"))
		l.Close(c.err)
		received := l.received()
		if got := received[1].Params["exception"]; !reflect.DeepEqual(got, parse(t, c.want)) {
			t.Errorf("%T: exception %v\nwant %s", c.err, got, c.want)
		}
	}
}

// round is an error that is its own cause.
type round struct{}

func (round) Error() string   { return "round" }
func (r round) Unwrap() error { return r }
