package setting

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// MarshalJSON returns c as a JSON object, without the fields that have their zero value.
func MarshalJSON[T any](fields []Field[T], c *T) ([]byte, error) {
	var b bytes.Buffer
	zero := new(T)
	b.WriteByte('{')
	for _, f := range fields {
		v, _ := f.get(c)
		if z, _ := f.get(zero); reflect.DeepEqual(v, z) {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", f.Name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON sets the fields of c that the object in data names. An unknown name and
// an invalid value are an [*Error]; c is then unchanged.
func UnmarshalJSON[T any](fields []Field[T], c *T, data []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return err
	}
	next := *c
	for _, f := range fields {
		raw, ok := object[f.Name]
		if !ok {
			continue
		}
		delete(object, f.Name)
		text, err := Scalar(raw, f.list)
		if err != nil {
			return Bad(f.Name, string(raw), f.Want)
		}
		if err := f.Set(&next, text); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) { // always report the same name
		return Set(fields, &next, name, "")
	}
	*c = next
	return nil
}

// Scalar returns a JSON value in the form of a flag's text. A list is an error unless
// list is set.
func Scalar(raw json.RawMessage, list bool) (string, error) {
	if !bytes.HasPrefix(raw, []byte("[")) {
		var s string
		if err := json.Unmarshal(raw, &s); err == nil && string(raw) != "null" {
			return s, nil
		}
		if bytes.ContainsAny(raw, "{\"") || string(raw) == "null" {
			return "", fmt.Errorf("neither a text, a number nor a list: %s", raw)
		}
		return string(raw), nil
	}
	if !list {
		return "", fmt.Errorf("a list, not a text or a number: %s", raw)
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return "", err
	}
	texts := make([]string, len(elements))
	for i, e := range elements {
		text, err := Scalar(e, false)
		if err != nil || strings.Contains(text, ",") {
			return "", fmt.Errorf("not a list of texts: %s", raw)
		}
		texts[i] = text
	}
	return strings.Join(texts, ","), nil
}
