package policy

import (
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/upstream"
	"github.com/seed-0f2c7998/perdure/policy/yamlfile"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An Upstream is a server that the command perdure proxy serves: a row of the section proxy of a
// file.
type Upstream struct {
	Prefix string // path prefix without a slash at its end; "" means all paths
	Listen string // address of a listener of its own: HOST:PORT or unix:PATH; "" means that of the command
	URL    string // http or https, without user, query and fragment
	Policy string // name of a policy of the file or of a preset; "" means that of the command
	Source string // the line of the file, for errors
}

const proxySection = "proxy"

// Upstreams returns the rows of the section proxy, in the order of the file.
func (f *File) Upstreams() []Upstream { return slices.Clone(f.upstreams) }

// upstream reads a row of the section proxy.
func (r *reader) upstream(key string, at *token.Token, body ast.Node) error {
	title := proxySection + "." + key
	u := Upstream{Source: r.Place(at) + ": " + title}
	var err error
	if u.Prefix, u.Listen, err = upstream.Key(r.Place(at)+": "+proxySection, key); err != nil {
		return yamlfile.Below(err, r.Excerpt(at))
	}
	if slices.ContainsFunc(r.out.upstreams, func(other Upstream) bool { return other.Prefix == u.Prefix && other.Listen == u.Listen }) {
		return r.Fail(at, "%s is set twice", title)
	}
	err = r.Each(body, title, func(name string, at *token.Token, value ast.Node) error {
		to := map[string]*string{"to": &u.URL, "policy": &u.Policy}[name]
		if to == nil {
			return r.Unknown(title+"."+name, at, []string{"to", "policy"})
		}
		if *to != "" {
			return r.Fail(at, "%s.%s is set twice", title, name)
		}
		text, ok := yamlfile.Plain(value, false)
		if !ok || text == "" {
			return r.Fail(at, "invalid value for %s.%s: must be a text", title, name)
		}
		*to = text
		if name == "policy" {
			r.chosen = append(r.chosen, choosing{text, r.Place(at) + ": " + title + ".policy", r.Excerpt(at)})
			return nil
		}
		if _, err := upstream.URL(r.Place(at)+": "+title+".to", text); err != nil {
			return yamlfile.Below(err, r.Excerpt(at))
		}
		return nil
	})
	if err == nil && u.URL == "" {
		err = r.Fail(at, "%s has no URL: must have to, such as to: https://api.example.com", title)
	}
	r.out.upstreams = append(r.out.upstreams, u)
	return err
}

// A choosing is the name of a policy in a row of the section proxy.
type choosing struct{ name, source, excerpt string }

// checkChoices returns the errors of the names that no policy of the file and no preset has.
func (r *reader) checkChoices() error {
	var all []error
	for _, c := range r.chosen {
		known := slices.Concat(r.out.Names(), retry.PresetNames())
		if !slices.Contains(known, c.name) {
			all = append(all, yamlfile.Below(setting.Unknown(c.source, c.name, known), c.excerpt))
		}
	}
	return yamlfile.Join(all...)
}

// upstreamSchema returns the schema of a row of the section proxy.
func upstreamSchema() object {
	row := mapping(object{
		"to":     object{"type": "string", "pattern": `^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s]+(/[^?#]*)?\??#?$`, "description": "URL of the server"},
		"policy": object{"type": []string{"string", "number", "boolean"}, "pattern": `\S`, "description": "name of one of policies or of a preset"},
	})
	row["type"], row["required"] = "object", []string{"to"}
	return row
}
