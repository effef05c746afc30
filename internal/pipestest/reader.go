// Package pipestest is Dagster's side of Pipes, for tests: what it puts into the
// environment, and a reader of what comes back.
package pipestest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Reader is a twin of the one in Dagster, but stricter: it takes nothing that
// Dagster's dies of, in whatever locale, nor what it only lets pass.
type Reader struct {
	Opened, Closed int
	Messages       []Message
}

// A Message is one as it was read; numbers are as they were written.
type Message struct {
	Method string
	Params map[string]any
}

// Read takes all that was written to a messages file. The error names the first
// line that Dagster's reader would not have survived.
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
		return fmt.Errorf("a surrogate without the other")
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

// lengthRule: what lies on more than one page of a file may be read in part, so
// it is no longer than it has to be.
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

func valueRule(kind, raw any) error {
	switch kind {
	case "__infer__":
		if _, ok := raw.(map[string]any); ok {
			return fmt.Errorf("an object to infer from")
		}
		return nil
	case "text", "url", "path", "md", "notebook", "dagster_run", "asset":
		return isString(raw)
	case "json":
		if isObject(raw) == nil {
			return nil
		}
		return isListOf(raw, func(any) error { return nil })
	case "float":
		return isNumber(raw, true)
	case "int":
		return isNumber(raw, false)
	case "bool":
		return isBool(raw)
	case "timestamp":
		_, ok := raw.(json.Number)
		return must(ok, raw, "a number")
	case "null":
		return must(raw == nil, raw, "null")
	case "table":
		return tableRule(raw)
	case "table_schema":
		return first(isObject(raw), columnsRule(Member(raw, "columns")))
	case "table_column_lineage":
		return lineageRule(raw)
	default:
		return fmt.Errorf("unknown type %v", kind)
	}
}

func tableRule(raw any) error {
	return first(isObject(raw), columnsRule(Member(raw, "schema")), isListOf(Member(raw, "records"), func(row any) error {
		m, ok := row.(map[string]any)
		for name, cell := range m {
			switch cell.(type) {
			case nil, string, bool, json.Number:
			default:
				return fmt.Errorf("cell %q is %T", name, cell)
			}
		}
		return must(ok, row, "a record")
	}))
}

func columnsRule(v any) error {
	return isListOf(v, func(c any) error {
		m, ok := c.(map[string]any)
		if !ok {
			return fmt.Errorf("column %v", c)
		}
		if err := first(isString(m["name"]), isString(m["type"])); err != nil {
			return err
		}
		for name, v := range m {
			err := error(nil)
			switch name {
			case "name", "type", "description":
				err = isString(v)
			case "tags":
				err = isObject(v)
			case "constraints":
				err = first(isObject(v), isBool(Member(v, "nullable")), isBool(Member(v, "unique")), isListOf(Member(v, "other"), isString))
			default:
				err = fmt.Errorf("column has %q", name)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func lineageRule(raw any) error {
	by, ok := Member(raw, "deps_by_column").(map[string]any)
	for _, deps := range by {
		err := isListOf(deps, func(d any) error {
			m, _ := d.(map[string]any)
			return first(keys(m, "asset_key column_name"), isListOf(m["asset_key"], isString), isString(m["column_name"]))
		})
		if err != nil {
			return err
		}
	}
	return must(ok, raw, "a lineage")
}

// keys reports an error if m has not exactly these keys.
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

// isNumber reports an error if v is not what Python reads as a float, or as an
// int of a size that it does read.
func isNumber(v any, float bool) error {
	n, ok := v.(json.Number)
	return must(ok && strings.ContainsAny(n.String(), ".eE") == float && len(n) <= 4300, v, "a number of the kind")
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

// Member returns the value of that name in an object, or nil.
func Member(v any, name string) any {
	m, _ := v.(map[string]any)
	return m[name]
}

// pairedSurrogates reports whether each half of a pair in line has the other.
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

// depth is how many lists and objects are within one another.
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
