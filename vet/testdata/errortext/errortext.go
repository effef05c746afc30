package errortext

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/seed-0f2c7998/perdure/retry"
)

var literal = retry.Policy{Classify: func(err error) retry.Class {
	if strings.Contains(strings.ToLower(err.Error()), "timeout") { // want `the text of an error decides`
		return retry.ClassTransient
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return retry.ClassTransient
	}
	return retry.ClassUnknown
}}

var busy = regexp.MustCompile("busy")

func classify(err error) retry.Class {
	switch err.Error() { // want `the text of an error decides`
	case "busy":
		return retry.ClassTransient
	}
	if err.Error() == "down" || busy.MatchString(err.Error()) { // want `the text of an error decides` `the text of an error decides`
		return retry.ClassTransient
	}
	return retry.ClassUnknown
}

func policy() retry.Policy {
	p := retry.Service()
	p.Classify = classify
	return p
}

// Not a classifier: a log may look at texts.
func log(err error) bool { return strings.Contains(err.Error(), "timeout") }

var variable = retry.Policy{Classify: func(err error) retry.Class {
	text := strings.ToLower(err.Error())
	_ = err.Error()
	failed := errors.Is(err, io.EOF)
	switch {
	case failed && text == "": // want `the text of an error decides`
	case strings.HasPrefix(text, "busy"), busy.MatchString(fmt.Sprint(err)): // want `the text of an error decides` `the text of an error decides`
		return retry.ClassTransient
	}
	return retry.ClassUnknown
}}
