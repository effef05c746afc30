package endpoint

import "slices"

// AddScheme adds a row to the table until the function is called.
func AddScheme(name, source, target, tree string, parse func(field, text string) (Endpoint, error)) (remove func()) {
	before := schemes
	schemes = append(slices.Clip(schemes), scheme{[]string{name}, parse, source, target, tree})
	return func() { schemes = before }
}

// Words returns what the errors say of SRC.
func Words() string { return words(func(s scheme) string { return s.source }) }
