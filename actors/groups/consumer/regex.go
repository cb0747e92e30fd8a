package consumer

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// regexMax bounds the text of a regular expression, in bytes: what it compiles to
// is some hundred times as large.
const regexMax = 4096

// regexEvery is how often the regular expressions of a group are matched with
// changed metadata at most, as in Kafka: each costs a look at all topics, and
// metadata changes with every in-sync set.
const regexEvery = 10 * time.Second

// regex is a regular expression that members subscribe to, and what it matches.
type regex struct {
	regexValue
	compiled *regexp.Regexp // nil: it does not compile, and matches what it did
}

func compile(source string) (*regexp.Regexp, error) {
	if len(source) > regexMax {
		return nil, fmt.Errorf("regular expression of %d bytes, at most %d are taken: %w",
			len(source), regexMax, group.ErrInvalidRegex)
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, fmt.Errorf("%q: %w: %w", source, group.ErrInvalidRegex, err)
	}
	re.Longest() // so that a match of the whole name is found where there is one
	return re, nil
}

// matches returns the topics whose whole name matches, sorted. Internal topics are
// no exception, as in Kafka: a member that wants them can have them.
func matches(re *regexp.Regexp, topics []*messages.Topic) []string {
	var names []string
	for _, t := range topics {
		at := re.FindStringIndex(t.Name)
		if at != nil && at[0] == 0 && at[1] == len(t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

// matchRegexes brings what regular expressions match up to date: that of the
// speaker if it is new, and all if the metadata changed and it is time.
func (p *plan) matchRegexes() error {
	g := p.g
	if s := p.speaker; s != nil && s.regex != "" && g.regexes[s.regex] == nil {
		re, err := compile(s.regex)
		if err != nil {
			return err
		}
		p.match(s.regex, re)
	}
	if len(g.regexes) == 0 || p.image == g.regexSeen || p.now.Before(g.regexAt.Add(regexEvery)) {
		return nil
	}
	p.refreshed = true
	for _, source := range slices.Sorted(maps.Keys(g.regexes)) {
		if r := g.regexes[source]; r.compiled != nil && p.subscribers(source) > 0 {
			p.match(source, r.compiled)
		}
	}
	return nil
}

func (p *plan) match(source string, re *regexp.Regexp) {
	if p.topics == nil {
		p.topics = p.image.Topics()
	}
	names := matches(re, p.topics)
	if was := p.g.regexes[source]; was != nil && slices.Equal(was.topics, names) {
		return
	}
	v := regexValue{
		topics: names, version: int64(p.image.Version), timestamp: p.now.UnixMilli(),
	}
	if p.matched == nil {
		p.matched = map[string][]string{}
	}
	p.matched[source] = names
	p.bump = true
	p.add(keyRegex, source, v)
}

// dropRegexes forgets regular expressions nobody subscribes to any more.
func (p *plan) dropRegexes() {
	for _, source := range slices.Sorted(maps.Keys(p.g.regexes)) {
		if p.subscribers(source) == 0 {
			p.add(keyRegex, source, nil)
		}
	}
}

func (p *plan) subscribers(source string) int {
	n := 0
	for _, m := range p.roll() {
		if m.regex == source {
			n++
		}
	}
	return n
}

// matching returns the topics a regular expression matches, as of this plan.
func (p *plan) matching(source string) []string {
	if names, ok := p.matched[source]; ok {
		return names
	}
	if r := p.g.regexes[source]; r != nil {
		return r.topics
	}
	return nil
}
