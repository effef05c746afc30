package yamlfile

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// mostErrors is how many errors of a file are named.
const mostErrors = 20

// errMore stands for the errors beyond mostErrors.
var errMore = errors.New("there are more errors, which are not shown")

// Errors are two or more errors of one file. The text is one line for each, without the lines
// of the file.
type Errors []error

// Error returns the lines.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors.
func (e Errors) Unwrap() []error { return e }

// A brief is an error of which only the first line is shown.
type brief struct{ error }

func (b brief) Error() string {
	line, _, _ := strings.Cut(b.error.Error(), "\n")
	return line
}

func (b brief) Unwrap() error { return b.error }

// Join returns all of errs that are not nil, each text once, in the order of their lines: the
// first 20. It returns a single error as it is, and nil if all are nil.
func Join(errs ...error) error {
	var all []error
	more := false
	add := func(err error) {
		same := func(other error) bool { return other.Error() == err.Error() }
		if err == errMore { //nolint:errorlint // it is not wrapped
			more = true
		} else if !slices.ContainsFunc(all, same) {
			all = append(all, err)
		}
	}
	for _, err := range errs {
		several, ok := err.(Errors) //nolint:errorlint // one that is wrapped is one error
		for _, err := range several {
			add(cmp.Or(errors.Unwrap(err), err))
		}
		if !ok && err != nil {
			add(err)
		}
	}
	slices.SortStableFunc(all, func(a, b error) int { return cmp.Compare(lineOf(a), lineOf(b)) })
	if len(all) > mostErrors {
		all, more = all[:mostErrors], true
	}
	if len(all) == 0 {
		return nil
	}
	if len(all) == 1 {
		return all[0]
	}
	lines := make(Errors, len(all))
	for i, err := range all {
		lines[i] = brief{err}
	}
	if more {
		lines = append(lines, errMore)
	}
	return lines
}

var linePlace = regexp.MustCompile(`:(\d+):\d+: `)

// lineOf returns the line that err is about, or 0.
func lineOf(err error) int {
	if m := linePlace.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1]) // digits
		return n
	}
	return 0
}
