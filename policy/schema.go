package policy

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// An object is a JSON object.
type object map[string]any

// Schema returns the JSON Schema of policy files, draft 2020-12, for editors. It is made from
// the tables of parameters. A file that [Read] accepts is valid; a valid file may still have
// values that contradict each other, or name a breaker that it lacks.
func Schema() []byte {
	policies := properties(policySection)
	policies[breakerSection] = object{"anyOf": []any{
		object{"$ref": "#/$defs/circuit_breaker"},
		object{"type": "string", "pattern": namePattern, "description": "name of one of breakers"},
	}}
	breakers := properties(breakerSection)
	breakers["preset"] = object{"enum": []string{"service", "pipeline"}, "description": "preset whose circuit breaker this one begins with"}
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
			proxySection:   rows("upstreams of perdure proxy, by path prefix", "^/", "upstream"),
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

// apart refuses both names in one object.
func apart(a, b string) object { return object{"not": object{"required": []string{a, b}}} }

func mapping(of object) object {
	return object{"type": []string{"object", "null"}, "additionalProperties": false, "properties": of}
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
		return object{"type": "string", "pattern": `^\s*(memory|host|(rediss?|valkeys?|unix)://.*)\s*$`}
	case len(p.Words()) > 0:
		return choice(p)
	case p.List:
		return object{"anyOf": []any{
			object{"type": []string{"string", "number"}},
			object{"type": "array", "items": object{"type": []string{"string", "number"}, "pattern": `^[^,]*$`}},
		}}
	case kind == "true":
		return object{"anyOf": []any{
			object{"type": "boolean"},
			object{"enum": []any{0, 1, "0", "1", "t", "f", "T", "F", "true", "false", "TRUE", "FALSE", "True", "False"}},
		}}
	case strings.HasPrefix(p.Want, "a text"):
		return object{"type": []string{"string", "number", "boolean"}, "pattern": `\S`, "maxLength": longestName}
	}
	return number(p.Want)
}

// choice returns the schema of words. Presets may be written in any case, and with hyphens.
func choice(p Parameter) object {
	if p.Name != "preset" {
		return object{"enum": p.Words()}
	}
	var all []string
	for _, word := range p.Words() {
		if all = append(all, word); strings.Contains(word, "_") {
			all = append(all, strings.ReplaceAll(word, "_", "-"))
		}
	}
	return object{"enum": all}
}

// wants matches what a parameter with numbers allows: its kind, lower limit and upper limit.
var wants = regexp.MustCompile(`^(a whole number|a number|seconds|calls per second).*?(?:(?:from|of at least) (\S+?))?(?:,? (?:to|and at most|at most|at most) (\S+?))?(?:, or (\w+))?$`)

// number returns the schema of a parameter with numbers, which may also be texts.
func number(want string) object {
	m := wants.FindStringSubmatch(want)
	if m == nil {
		return object{"type": []string{"number", "string"}}
	}
	n, text := object{"type": "number"}, `^\s*[-+.0-9eE]+\s*$`
	switch m[1] {
	case "a whole number":
		n["type"], text = "integer", `^\s*\+?[0-9]+\s*$`
	case "seconds":
		text = `^\s*\+?([.0-9eE]+|([.0-9]+(ns|us|µs|ms|s|m|h))+)\s*$`
	case "calls per second":
		text = `^\s*[.0-9eE+]+\s*(/\s*[smhd]\s*)?$`
	}
	if low, ok := limit(m[2]); ok {
		n["minimum"] = low
	} else if m[2] == "" {
		n["exclusiveMinimum"] = 0
	}
	if high, ok := limit(m[3]); ok {
		n["maximum"] = high
	}
	kinds := []any{n, object{"type": "string", "pattern": text}}
	if special := m[4]; special == "0" {
		kinds = append(kinds, object{"const": 0})
	} else if special != "" {
		kinds = append(kinds, object{"const": special})
	}
	return object{"anyOf": kinds}
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
