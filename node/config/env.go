package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/troupelog/troupe/messages/configs"
)

const (
	envPrefix = "TROUPE_"
	envFile   = "TROUPE_CONFIG"
)

// notSettings are variables with our prefix that other parts of the program read.
var notSettings = []string{envFile, "TROUPE_BROKERS"}

// kubernetes matches what Kubernetes puts into the environment of every
// container for a service whose name begins with "troupe": TROUPE_PORT,
// TROUPE_SERVICE_HOST, TROUPE_KAFKA_PORT_9092_TCP_ADDR.
var kubernetes = regexp.MustCompile(
	`^TROUPE_([A-Z0-9_]+_)?` +
		`(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// byVariable finds the setting of a variable. Names of settings have dots, names
// of variables cannot; so the table decides which underscores are dots.
var byVariable = func() map[string]string {
	names := map[string]string{}
	for _, d := range configs.Brokers() {
		names[Variable(d.Name)] = d.Name
	}
	return names
}()

// Variable returns the environment variable of a setting.
func Variable(setting string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(setting))
}

// takeEnv takes the settings of the environment. Of a variable given twice the
// last counts, as in a shell.
func (l *loader) takeEnv(environ []string) {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(notSettings, name) ||
			kubernetes.MatchString(name) {
			continue
		}
		setting, ok := byVariable[name]
		if !ok {
			rest := strings.TrimPrefix(name, envPrefix)
			setting = strings.ReplaceAll(strings.ToLower(rest), "_", ".")
		}
		l.take(entry{setting, value, "env " + name, fromEnv})
	}
}

// environment returns the value of a variable, "" if it is not set.
func environment(environ []string, name string) string {
	for _, pair := range slices.Backward(environ) {
		if key, value, _ := strings.Cut(pair, "="); key == name {
			return value
		}
	}
	return ""
}
