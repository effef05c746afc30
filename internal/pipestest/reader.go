// Package pipestest implements Dagster's side of Pipes for tests: the variables that
// Dagster sets, and a reader of messages.
package pipestest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/pipesjson"
)

// A Reader holds the messages that [Read] has read.
type Reader struct {
	Opened, Closed int // number of opened and of closed messages
	Messages       []Message
}

// A Message is a decoded message, with numbers as [json.Number].
type Message struct {
	Method string
	Params map[string]any
}

// Read reads the text of a messages file. It is stricter than Dagster's reader: it
// refuses what ends that reader, in any locale, and what that reader only ignores.
// The error names the first line that Read refuses.
func Read(text []byte) (*Reader, error) {
	r := &Reader{}
	for i, line := range bytes.SplitAfter(text, []byte("\n")) {
		if len(line) == 0 && i > 0 {
			break // after the last newline
		}
		if err := r.line(line); err != nil {
			return r, fmt.Errorf("line %d: %w: %.300q", i+1, err, line)
		}
	}
	return r, nil
}

func (r *Reader) line(line []byte) error {
	if !bytes.HasSuffix(line, []byte("\n")) {
		return fmt.Errorf("no newline")
	}
	for _, c := range line[:len(line)-1] {
		if c < ' ' || c > '~' && c != 0x7f {
			return fmt.Errorf("byte %#x", c)
		}
	}
	if bytes.Contains(bytes.ToLower(line), []byte(`\ud`)) && !pairedSurrogates(line) {
		return fmt.Errorf("an unpaired surrogate")
	}
	if depth(line) > 100 {
		return fmt.Errorf("%d levels", depth(line))
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var envelope map[string]any
	if err := d.Decode(&envelope); err != nil {
		return err
	}
	if err := keys(envelope, "__dagster_pipes_version method params"); err != nil {
		return err
	}
	method, _ := envelope["method"].(string)
	params, ok := envelope["params"].(map[string]any)
	if !ok {
		return fmt.Errorf("params is %T", envelope["params"])
	}
	r.Messages = append(r.Messages, Message{method, params})
	return first(lengthRule(method, len(line)), r.message(method, params))
}

// lengthRule refuses a log line that is longer than a page of the file: Dagster may
// read a part of a message that is on several pages.
func lengthRule(method string, size int) error {
	limit := 64 << 10
	if method == "log" || method == "log_external_stream" {
		limit = 4 << 10
	}
	if size > limit {
		return fmt.Errorf("%s: %d bytes are too long to be written at once: at most %d", method, size, limit)
	}
	return nil
}

func (r *Reader) message(method string, p map[string]any) error {
	if r.Closed > 0 {
		return fmt.Errorf("%s after closed", method)
	}
	if (r.Opened == 0) != (method == "opened") {
		return fmt.Errorf("%s when opened %d times", method, r.Opened)
	}
	switch method {
	case "opened":
		r.Opened++
		return keys(p, "extras")
	case "closed":
		r.Closed++
		if len(p) == 0 {
			return nil
		}
		if err := keys(p, "exception"); err != nil {
			return err
		}
		return exceptionRule(p["exception"], 0)
	case "log":
		return first(keys(p, "level message"), isString(p["message"]),
			isOneOf(p["level"], "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
	case "report_asset_materialization":
		return first(keys(p, "asset_key data_version metadata"), isName(p["asset_key"]),
			isNullOr(p["data_version"], isName), isNullOr(p["metadata"], metadataRule))
	case "report_asset_check":
		return first(keys(p, "asset_key check_name metadata passed severity"), isName(p["asset_key"]),
			isName(p["check_name"]), isBool(p["passed"]), isOneOf(p["severity"], "WARN", "ERROR"),
			isNullOr(p["metadata"], metadataRule))
	case "report_custom_message":
		return keys(p, "payload")
	case "log_external_stream":
		return first(keys(p, "extras stream text"), isOneOf(p["stream"], "stdout", "stderr"),
			isString(p["text"]), isObject(p["extras"]))
	default:
		return fmt.Errorf("unknown method %q", method)
	}
}

func exceptionRule(v any, level int) error {
	e, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("exception %d is %T", level, v)
	}
	return first(keys(e, "cause context message name stack"), isString(e["message"]), isNullOr(e["name"], isString),
		isListOf(e["stack"], isString),
		isNullOr(e["context"], func(v any) error { return exceptionRule(v, level+1) }),
		isNullOr(e["cause"], func(v any) error { return exceptionRule(v, level+1) }))
}

func metadataRule(v any) error {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 {
		return fmt.Errorf("metadata is %T of %d", v, len(m))
	}
	for label, v := range m {
		value, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("metadata %q is %T", label, v)
		}
		if err := first(keys(value, "raw_value type"), valueRule(value["type"], value["raw_value"])); err != nil {
			return fmt.Errorf("metadata %q: %w", label, err)
		}
	}
	return nil
}

// valueRule refuses a value that is not in the normal form of its kind.
func valueRule(kind, raw any) error {
	name, ok := kind.(string)
	if !ok {
		return fmt.Errorf("type is %v", kind)
	}
	k, normal, err := pipesjson.Read(name, raw)
	if err != nil {
		return err
	}
	if k.Name != name || !reflect.DeepEqual(raw, normal) {
		return fmt.Errorf("%v, want %v of type %s", raw, normal, k.Name)
	}
	n, _ := raw.(json.Number)
	return must(len(n) <= 4300, raw, "a number that Python reads")
}

// keys returns an error if m does not have exactly these keys.
func keys(m map[string]any, want string) error {
	if got := strings.Join(slices.Sorted(maps.Keys(m)), " "); got != want {
		return fmt.Errorf("keys %q, want %q", got, want)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func must(ok bool, v any, want string) error {
	if !ok {
		return fmt.Errorf("%v (%T) is not %s", v, v, want)
	}
	return nil
}

func isString(v any) error { _, ok := v.(string); return must(ok, v, "a string") }
func isBool(v any) error   { _, ok := v.(bool); return must(ok, v, "a bool") }
func isObject(v any) error { _, ok := v.(map[string]any); return must(ok, v, "an object") }
func isName(v any) error   { s, _ := v.(string); return must(s != "", v, "a name") }

func isOneOf(v any, words ...string) error {
	s, ok := v.(string)
	return must(ok && slices.Contains(words, s), v, fmt.Sprintf("one of %q", words))
}

func isNullOr(v any, rule func(any) error) error {
	if v == nil {
		return nil
	}
	return rule(v)
}

func isListOf(v any, rule func(any) error) error {
	list, ok := v.([]any)
	for _, item := range list {
		if err := rule(item); err != nil {
			return err
		}
	}
	return must(ok, v, "a list")
}

// Member returns the value under name in the object v; nil if v has no such value.
func Member(v any, name string) any {
	m, _ := v.(map[string]any)
	return m[name]
}

// pairedSurrogates reports whether each surrogate escape in line is part of a pair.
func pairedSurrogates(line []byte) bool {
	high := false
	for i := 0; i+5 < len(line); i++ {
		if line[i] != '\\' {
			if high {
				return false
			}
			continue
		}
		if line[i+1] != 'u' {
			if high {
				return false
			}
			i++
			continue
		}
		var u rune
		if _, err := fmt.Sscanf(string(line[i+2:i+6]), "%x", &u); err != nil {
			return false
		}
		switch isHigh, isLow := u>>10 == 0x36, u>>10 == 0x37; {
		case high != isLow:
			return false
		default:
			high = isHigh
		}
		i += 5
	}
	return !high
}

// depth returns the number of nested lists and objects.
func depth(line []byte) (deepest int) {
	level, text := 0, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}
