package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/internal/upstream"
)

// An object is a JSON object.
type object map[string]any

// Schema returns the JSON Schema of policy files, draft 2020-12, for editors. It is made from
// the tables of parameters. A file that [Load] accepts is valid. Load refuses a valid file for
// these reasons only: values that contradict each other; the name of a breaker or policy that
// the file lacks; a number in quotes, a duration or a rate that is out of range; a number in
// another notation than decimal, such as 0x10 or, for a whole number, 7.0; a misspelt word in
// retry_on or ignore_on; a name of more than 200 bytes; an invalid path, address or host in
// proxy, or a path twice, with and without a slash at its end; aliases, anchors, tags, a
// second document, and the limits of size.
func Schema() []byte {
	policies := properties(policySection)
	policies[breakerSection] = anyOf(
		object{"$ref": "#/$defs/circuit_breaker"},
		object{"type": "string", "pattern": namePattern, "description": "name of one of breakers"},
	)
	breakers := properties(breakerSection)
	preset := choice(Parameter{Parameter: perdure.Parameter{Name: "preset", Want: "one of service, pipeline"}})
	preset["description"] = "preset whose circuit breaker this one begins with"
	breakers["preset"] = preset
	upstreams := rows("upstreams of perdure proxy, by path prefix or address", `^(/|unix:.|[^/]*:[0-9]+$)`, "upstream")
	upstreams["propertyNames"] = object{"not": object{"pattern": "^" + regexp.QuoteMeta(upstream.Reserved) + "(/|$)"}}
	root := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "Policies of perdure",
		"type":    []string{"object", "null"}, "additionalProperties": false,
		"properties": object{
			policySection:  object{"$ref": "#/$defs/policy"},
			breakerSection: object{"$ref": "#/$defs/circuit_breaker"},
			"policies":     byName("policies by name; the others inherit from default", "named_policy"),
			"breakers":     byName("circuit breakers that policies share, by name", "breaker"),
			"store":        properties("")["store"],
			proxySection:   upstreams,
		},
		"allOf": []any{
			apart(policySection, "policies"), apart(policySection, "breakers"),
			apart(breakerSection, "policies"), apart(breakerSection, "breakers"),
		},
		"$defs": object{
			"policy":          mapping(properties(policySection)),
			"circuit_breaker": mapping(properties(breakerSection)),
			"named_policy":    mapping(policies),
			"breaker":         mapping(breakers),
			"upstream":        upstreamSchema(),
		},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	_ = e.Encode(root) // into memory
	return b.Bytes()
}

// apart refuses both names in one object. It accepts null.
func apart(a, b string) object {
	return object{"not": object{"type": "object", "required": []string{a, b}}}
}

func mapping(of object) object {
	m := object{"type": []string{"object", "null"}, "additionalProperties": false, "properties": of}
	for name := range of {
		if short, ok := strings.CutSuffix(name, "_seconds"); ok {
			m["allOf"] = []any{apart(short, name)}
		}
	}
	return m
}

func byName(doc, of string) object { return rows(doc, namePattern, of) }

// rows returns the schema of a mapping from names of a pattern.
func rows(doc, pattern, of string) object {
	return object{
		"type": []string{"object", "null"}, "description": doc, "additionalProperties": false,
		"patternProperties": object{pattern: object{"$ref": "#/$defs/" + of}},
	}
}

// properties returns the schemas of the parameters of a section.
func properties(section string) object {
	all := object{}
	for _, p := range Parameters() {
		if p.Section() != section {
			continue
		}
		s := schemaOf(p)
		s["description"] = p.Doc + "; " + p.Want
		all[p.Name] = s
		if short, ok := strings.CutSuffix(p.Name, "_seconds"); ok {
			all[short] = s
		}
	}
	return all
}

// schemaOf returns the schema of the values that p.Want allows.
func schemaOf(p Parameter) object {
	kind, _, _ := strings.Cut(p.Want, " ")
	switch {
	case p.Name == "store":
		return object{"type": "string", "pattern": `^(memory$|host$|(rediss?|valkeys?|unix)://)`}
	case len(p.Words()) > 0:
		return choice(p)
	case p.List:
		return list(p)
	case kind == "true":
		return anyOf(object{"type": "boolean"}, object{"enum": []int{0, 1}}, text("[01tfTF]|true|false|TRUE|FALSE|True|False"))
	case strings.HasPrefix(p.Want, "a text"):
		return object{"type": []string{"string", "number", "boolean"}, "pattern": `\S`, "maxLength": longestName}
	}
	return number(p.Want)
}

func anyOf(all ...any) object { return object{"anyOf": all} }

// text returns the schema of texts of a pattern, between spaces.
func text(pattern string) object {
	return object{"type": "string", "pattern": `^\s*(` + pattern + `)\s*$`}
}

// choice returns the schema of words. Presets may be written in any case, and with hyphens.
func choice(p Parameter) object {
	words := p.Words()
	pattern := strings.Join(words, "|")
	if p.Name == "preset" {
		pattern = regexp.MustCompile("[a-z]").ReplaceAllStringFunc(pattern, func(c string) string { return "[" + strings.ToUpper(c) + c + "]" })
		pattern = strings.ReplaceAll(pattern, "_", "[_-]")
	}
	return anyOf(object{"enum": words}, text(pattern)) // editors suggest what is in enum
}

// list returns the schema of retry_on and ignore_on: words, statuses, SQLSTATEs and codes.
func list(p Parameter) object {
	const code = `[A-Za-z0-9._:#/-]*[A-Z._:#/-][A-Za-z0-9._:#/-]*`
	entry := `(timeout|connection|throttled|conflict|[45]xx|[3-5][0-9]{2}|[0-9]{5}|` + code + `)`
	if strings.Contains(p.Want, "default") {
		entry = strings.Replace(entry, "timeout", "default|timeout", 1)
	}
	others := []any{
		object{"type": "integer", "minimum": 300, "maximum": 599},
		object{"type": "integer", "minimum": 1000, "maximum": 99999}, // an SQLSTATE such as 40001 or 08006
		object{"type": "boolean"},                                    // which YAML makes of the code TRUE
	}
	return anyOf(append(others, text(entry+`(\s*,\s*`+entry+`)*`),
		object{"type": "array", "minItems": 1, "items": anyOf(append(others, text(entry))...)})...)
}

// wants returns what matches what a parameter with numbers allows: its kind, lower limit and upper limit.
var wants = sync.OnceValue(func() *regexp.Regexp { //nolint:gochecknoglobals // compiled when needed
	return regexp.MustCompile(`^(a whole number|a number|seconds|calls per second).*?(?:(?:from|of at least) (\S+?))?(?:,? (?:to|and at most|at most|at most) (\S+?))?(?:, or (\w+))?$`)
})

// number returns the schema of a parameter with numbers, which may also be texts.
func number(want string) object {
	m := wants().FindStringSubmatch(strings.Replace(want, "292 years", "9223372036", 1))
	n := object{"type": "number"}
	if low, ok := limit(m[2]); ok {
		n["minimum"] = low
	} else {
		n["exclusiveMinimum"] = 0
	}
	high, ok := limit(m[3])
	if ok {
		n["maximum"] = high
	}
	const decimal = `([0-9]+\.?[0-9]*|\.[0-9]+)`
	const float = `\+?` + decimal + `([eE][+-]?[0-9]+)?`
	form := float
	switch m[1] {
	case "a whole number":
		n["type"], form = "integer", `\+?[0-9]+`
		if ok {
			form = fmt.Sprintf(`\+?0*[0-9]{1,%d}`, len(m[3]))
		}
	case "seconds":
		form = float + `|\+?(` + decimal + `(ns|us|µs|μs|ms|s|m|h))+`
	case "calls per second":
		form = float + `\s*(/\s*[smhd])?`
	}
	positive := text(form)
	positive["allOf"] = []any{object{"pattern": "[1-9]"}}
	kinds := []any{n, positive}
	switch special := m[4]; special {
	case "":
	case "0":
		kinds = append(kinds, object{"const": 0}, text(`[+-]?([0.]*(ns|us|µs|μs|ms|s|m|h))+|[+-]?[0.]*0[0.]*`))
	default:
		kinds = append(kinds, object{"const": special}, text(special))
	}
	return anyOf(kinds...)
}

// limit returns a limit as a number: of seconds if it is a duration, per second if it is a
// rate.
func limit(text string) (float64, bool) {
	if v, err := strconv.ParseFloat(text, 64); err == nil {
		return v, true
	}
	if d, err := time.ParseDuration(text); err == nil {
		return d.Seconds(), true
	}
	amount, unit, _ := strings.Cut(text, "/")
	v, err := strconv.ParseFloat(amount, 64)
	per := map[string]float64{"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
	return v / max(per, 1), err == nil && per > 0
}
