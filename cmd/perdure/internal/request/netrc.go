package request

import (
	"errors"
	"fmt"
	"strings"
)

// A Netrc is the content of a netrc file, as curl and ftp read it.
type Netrc struct {
	path   string
	logins []Login
}

// A Login is one entry.
type Login struct {
	User, Password string

	host      string
	isDefault bool // the entry is for all hosts
	hasLogin  bool // User is given
}

// ParseNetrc parses a file. Errors show nothing of it but the number of a line.
func ParseNetrc(path, text string) (*Netrc, error) {
	n := &Netrc{path: path}
	tokens, err := tokens(text)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(tokens); i++ {
		word, line := tokens[i].text, tokens[i].line
		if word == "default" && !tokens[i].quoted {
			n.logins = append(n.logins, Login{isDefault: true})
			continue
		}
		i++
		if i == len(tokens) {
			return nil, fmt.Errorf("line %d: nothing follows the last word", line)
		}
		value := tokens[i].text
		if word == "machine" {
			n.logins = append(n.logins, Login{host: value})
			continue
		}
		if len(n.logins) == 0 {
			return nil, fmt.Errorf("line %d: must begin with machine or default", line)
		}
		last := &n.logins[len(n.logins)-1]
		switch word {
		case "login":
			last.User, last.hasLogin = value, true
		case "password":
			last.Password = value
		case "account":
		default:
			return nil, fmt.Errorf("line %d: must be machine, default, login, password, account or macdef", line)
		}
	}
	return n, nil
}

// Find returns the first entry of a host, or the default before it.
func (n *Netrc) Find(host string) (Login, error) {
	for _, l := range n.logins {
		if !l.isDefault && !strings.EqualFold(l.host, host) {
			continue
		}
		if !l.hasLogin {
			return Login{}, fmt.Errorf("the entry for %s in %s has no login", host, n.path)
		}
		return l, nil
	}
	return Login{}, fmt.Errorf("%s has no entry for %s, and no default", n.path, host)
}

// A token is a word of a netrc file.
type token struct {
	text   string
	line   int
	quoted bool
}

// tokens splits the text of a netrc file: comments and macros are skipped.
func tokens(text string) (all []token, err error) {
	inMacro, number := false, 0
	for line := range strings.Lines(text) {
		number++
		rest := strings.TrimLeft(line, " \t\r\n")
		if inMacro {
			inMacro = rest != ""
			continue
		}
		for rest != "" && rest[0] != '#' {
			var t token
			if t, rest, err = word(rest); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			if t.text == "macdef" && !t.quoted {
				inMacro = true
				break
			}
			t.line = number
			all = append(all, t)
			rest = strings.TrimLeft(rest, " \t\r\n")
		}
	}
	return all, nil
}

// word returns the first word of a line, which may be in quotes with \n, \r, \t, \" and \\.
func word(line string) (t token, rest string, err error) {
	if line[0] != '"' {
		end := strings.IndexAny(line, " \t\r\n")
		if end < 0 {
			end = len(line)
		}
		return token{text: line[:end]}, line[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			return token{text: b.String(), quoted: true}, line[i+1:], nil
		case c == '\\' && i+1 < len(line):
			i++
			if escaped := strings.IndexByte("nrt", line[i]); escaped >= 0 {
				b.WriteByte("\n\r\t"[escaped])
				continue
			}
			b.WriteByte(line[i])
		default:
			b.WriteByte(c)
		}
	}
	return t, "", errors.New("a quote is not closed")
}
