package pages

import "strings"

// Link returns the target of the first link with the relation next in the values of header fields Link (RFC 8288), or "".
func Link(values []string) string {
	for _, value := range values {
		for value != "" {
			var target, rel string
			target, rel, value = link(value)
			for word := range strings.FieldsSeq(rel) {
				if strings.EqualFold(word, "next") {
					return target
				}
			}
		}
	}
	return ""
}

// link returns the target and the relations of the first link of a list, and the rest of the list. A text that is no list of
// links ends the list.
func link(list string) (target, rel, rest string) {
	list = strings.TrimLeft(list, " \t,")
	list, ok := strings.CutPrefix(list, "<")
	if !ok {
		return "", "", ""
	}
	if target, list, ok = strings.Cut(list, ">"); !ok {
		return "", "", ""
	}
	hasRel := false
	for {
		list = strings.TrimLeft(list, " \t")
		if list == "" || list[0] == ',' {
			return target, rel, list
		}
		if list, ok = strings.CutPrefix(list, ";"); !ok {
			return target, rel, ""
		}
		var name, value string
		name, value, list = parameter(list)
		if strings.EqualFold(name, "rel") && !hasRel { // the first one counts
			rel, hasRel = strings.Trim(value, "'"), true // some servers write rel='next'
		}
	}
}

// parameter returns the name and the value of the first parameter of a link, and the rest.
func parameter(text string) (name, value, rest string) {
	end := strings.IndexAny(text, "=;,")
	if end < 0 {
		return strings.TrimSpace(text), "", ""
	}
	name, text = strings.TrimSpace(text[:end]), text[end:]
	if text[0] != '=' {
		return name, "", text
	}
	text = strings.TrimLeft(text[1:], " \t")
	if !strings.HasPrefix(text, `"`) {
		if end = strings.IndexAny(text, ";,"); end < 0 {
			end = len(text)
		}
		return name, strings.TrimSpace(text[:end]), text[end:]
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return name, b.String(), text[i+1:]
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return name, b.String(), ""
}
