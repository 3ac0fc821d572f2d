# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of providers: how each is detected, and which signer issues serving certificates there.

No single mark is enough. `-eks-` in the version means Amazon EKS or EKS Anywhere, and a providerID names the cloud, not the
operator of the control plane. Each row lists marks with points, and ENOUGH points make a match. Without a match, or with
more than one, the provider is "unknown", and the evidence lists all marks.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Callable, NamedTuple

from ..._base.text import matches
from ..errors import ProviderError
from .signers import EKS_APP_SERVING, EPHEMERAL_CA, KUBE_APISERVER_CLIENT, KUBELET_SERVING

ENOUGH = 3
STRONG = 2
UNKNOWN = "unknown"
# The entry of the user's rows for a cluster of an unknown provider. It is a signer.
DEFAULT = "default"
NO_ROWS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ProviderSignal:
    """One mark of a provider in the facts about a cluster."""

    #: A key of FACTS. It is also the word for the evidence.
    fact: str
    #: Patterns with the wildcard "*". One of them matches a value of the fact.
    patterns: tuple[str, ...]
    points: int


@dataclass(frozen=True)
class KubeconfigMark:
    """One mark of a provider in a kubeconfig."""

    #: "host": the host name of the API server, in its address or in tls-server-name. "cluster": the name of the cluster's
    #: entry. "command": the command line of the user's exec plugin, with the program's name without its directory.
    field: str
    #: A pattern with the wildcard "*".
    pattern: str


@dataclass(frozen=True)
class UnservedSigner:
    """A signer that never issues a request for a Service's names, so that the request stays Approved."""

    signer: str
    #: A clause.
    why: str
    remedy: str


@dataclass(frozen=True)
class Provider:
    """One provider."""

    name: str
    #: The signer for a Service's names. ephemeral-ca: no signer of the cluster issues them. "": not known.
    serving_signer: str
    #: Its marks in the facts about a cluster.
    signals: tuple[ProviderSignal, ...]
    #: Where the CA that signs is published.
    ca: str
    source: str
    #: What the version must be, whatever the points.
    fits_version: Callable[[str], bool] = lambda _version: True
    #: The rule of the user, which counts instead of marks. JMESPath over the facts. It holds unless null, false, 0 or empty.
    rule: str = ""
    #: Its marks in a kubeconfig.
    kubeconfig_marks: tuple[KubeconfigMark, ...] = ()
    not_served: tuple[UnservedSigner, ...] = ()
    #: None if the flags of the cluster set it.
    longest_lifetime_seconds: int | None = None
    #: Prefixes of names of CSR objects that its signers ignore.
    forbidden_prefixes: tuple[str, ...] = ()
    #: A clause that tells why the row is a guess, "" if its source documents it.
    doubt: str = ""


@dataclass(frozen=True)
class ProviderVerdict:
    """The provider of a cluster."""

    #: The name of its row, or "unknown".
    name: str
    #: Its serving signer, or "".
    signer: str
    #: The marks of this provider. If it is unknown: all marks, and the facts that could not be read.
    evidence: tuple[str, ...]
    #: The marks of other providers.
    contradictions: tuple[str, ...] = ()
    #: None if it is unknown.
    row: Provider | None = None
    #: The rows that have a mark, if it is unknown.
    candidates: tuple[Provider, ...] = ()
    #: The permissions that this identity lacks to see more marks, if it is unknown.
    lacking: tuple[str, ...] = ()
    #: True if it is unknown because this identity may read no object with marks.
    is_hidden: bool = False


def _plain_version(facts: Mapping[str, Any]) -> list[str]:
    """Return the version of upstream's builds, [] for a version with a suffix of a provider."""
    version = facts["version"]["gitVersion"]
    return [] if "-" in version or "+" in version else [version]


def _keys_of_nodes(facts: Mapping[str, Any], field: str) -> list[str]:
    return [key for node in facts["nodes"] for key in node[field]]


#: The values that a mark looks at, from the result of _kube.cluster_facts.read_cluster_facts.
FACTS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "version": lambda facts: [facts["version"]["gitVersion"]],
    "plain version": _plain_version,
    "API server": lambda facts: [facts["api_host"]],
    "API group": lambda facts: facts["api_groups"],
    "ClusterRole": lambda facts: facts["cluster_roles"],
    "ConfigMap": lambda facts: facts["config_maps"],
    "node label": lambda facts: _keys_of_nodes(facts, "labels"),
    "node annotation": lambda facts: _keys_of_nodes(facts, "annotations"),
    "node provider ID": lambda facts: [node["provider_id"] for node in facts["nodes"]],
    "node OS image": lambda facts: [node["os_image"] for node in facts["nodes"]],
}

_KUBEADM_SIGNALS = (
    ProviderSignal("ConfigMap", ("kube-system/kubeadm-config*",), 2),
    ProviderSignal("node annotation", ("kubeadm.alpha.kubernetes.io/cri-socket*",), 2),
)
# The ends of the host names of AKS API servers: AKS documentation, "Outbound network and FQDN rules", for the public cloud, for
# China and for the US government.
_AKS_HOSTS = ("*.azmk8s.io", "*.azmk8s.cn", "*.azk8s.cn", "*.aks.containerservice.azure.us")
# The ends of the host names of EKS API servers: Amazon EKS user guide, "Amazon EKS cluster endpoint access control"; Amazon
# Web Services in China, "Endpoints and ARNs"; dual-stack clusters are at *.eks-cluster.REGION.api.aws.
_EKS_HOSTS = ("*.eks.amazonaws.com", "*.eks.amazonaws.com.cn", "*.api.aws")
_CLUSTER_CA = "the cluster's CA: the kubeconfig's, and ConfigMap kube-root-ca.crt of every namespace"

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        "eks",
        serving_signer=EKS_APP_SERVING,
        signals=(
            ProviderSignal("version", ("*-eks-*",), 1),  # EKS Distro and EKS Anywhere also have it.
            ProviderSignal("ClusterRole", ("eks:certificate-controller-*",), 2),
            ProviderSignal("API server", _EKS_HOSTS, 2),
            ProviderSignal("node label", ("eks.amazonaws.com/*",), 2),
            ProviderSignal("node provider ID", ("aws:///*",), 1),  # Every cluster on EC2 has it.
        ),
        fits_version=lambda version: not version or "-eks-" in version,
        not_served=(
            UnservedSigner(
                KUBELET_SERVING,
                "Amazon EKS issues it only to kubelets, whose names it checks",
                f"Use signer_name: {EKS_APP_SERVING}.",
            ),
            UnservedSigner(
                KUBE_APISERVER_CLIENT,
                "Amazon EKS does not run this signer",
                "Amazon EKS issues no client certificates: use IAM, OIDC or a ServiceAccount token.",
            ),
        ),
        ca="the cluster's CA in practice (kubeconfig, describe-cluster), two while Amazon EKS rotates it; AWS documents none",
        longest_lifetime_seconds=365 * 24 * 3600,
        forbidden_prefixes=("csr-",),
        kubeconfig_marks=(
            *(KubeconfigMark("host", host) for host in _EKS_HOSTS),
            # aws eks update-kubeconfig names the entry by the cluster's ARN, and runs the program aws.
            KubeconfigMark("cluster", "arn:aws*:eks:*:cluster/*"),
            KubeconfigMark("command", "aws *eks get-token*"),
            # eksctl utils write-kubeconfig
            KubeconfigMark("command", "aws-iam-authenticator token*"),
        ),
        source="https://docs.aws.amazon.com/eks/latest/userguide/cert-signing.html; "
        "aws/amazon-eks-pod-identity-webhook#133; aws/containers-roadmap#1604, #2079; kubernetes/kubernetes#108633",
    ),
    Provider(
        "eks-anywhere",
        serving_signer=KUBELET_SERVING,
        signals=(
            ProviderSignal("version", ("*-eks-*",), 1),
            *_KUBEADM_SIGNALS,
            ProviderSignal("API group", ("anywhere.eks.amazonaws.com*",), 2),
        ),
        fits_version=lambda version: "-eks-" in version,
        ca=_CLUSTER_CA,
        source="aws/eks-distro projects/kubernetes/kubernetes/build/lib/version.sh; aws/eks-anywhere (kubeadm)",
    ),
    Provider(
        "aks",
        serving_signer="",
        doubt="documents describe certificates for kubelets only, and do not tell if AKS issues for the names of a Service",
        signals=(
            ProviderSignal("node label", ("kubernetes.azure.com/cluster*",), 3),
            ProviderSignal("API server", _AKS_HOSTS, 3),
            ProviderSignal("node provider ID", ("azure:///*",), 1),  # Every cluster on Azure has it.
        ),
        ca=f"{_CLUSTER_CA} (for kubelets)",
        kubeconfig_marks=tuple(KubeconfigMark("host", host) for host in _AKS_HOSTS),
        source="https://learn.microsoft.com/azure/aks/certificate-rotation (kubelet serving certificates); "
        "https://learn.microsoft.com/azure/aks/outbound-rules-control-egress (hosts); Azure/aks-engine (node labels)",
    ),
    Provider(
        "gke",
        serving_signer="",
        doubt="GKE signs by a service outside the cluster, and no document tells if it issues for the names of a Service",
        signals=(
            ProviderSignal("version", ("*-gke.*",), 1),  # Google Distributed Cloud also has it.
            ProviderSignal("node label", ("cloud.google.com/gke-nodepool*",), 2),
            ProviderSignal("API server", ("*.gke.goog",), 2),
            ProviderSignal("node provider ID", ("gce://*",), 1),  # Every cluster on Compute Engine has it.
        ),
        ca="Google documents none",
        kubeconfig_marks=(
            KubeconfigMark("host", "*.gke.goog"),
            # gcloud container clusters get-credentials names the entry gke_PROJECT_LOCATION_NAME, and runs this program.
            KubeconfigMark("cluster", "gke_*_*_*"),
            KubeconfigMark("command", "gke-gcloud-auth-plugin*"),
        ),
        source="https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-access-for-kubectl; kubernetes/kubernetes#95010 "
        "(a service outside the cluster signed); kubernetes/cloud-provider-gcp cmd/gcp-controller-manager before 2024-10",
    ),
    Provider(
        "openshift",
        serving_signer=KUBELET_SERVING,
        signals=(
            ProviderSignal("API group", ("config.openshift.io*",), 2),
            ProviderSignal("API group", ("security.openshift.io*",), 1),
            ProviderSignal("node label", ("node.openshift.io/*",), 2),
        ),
        ca="ConfigMap openshift-config-managed/csr-controller-ca, with hosted control planes kubelet-serving-ca, key ca-bundle.crt",
        longest_lifetime_seconds=720 * 3600,
        source="openshift/cluster-kube-controller-manager-operator bindata/assets/config/defaultconfig.yaml; "
        "openshift/installer#3124",
    ),
    Provider(
        "kubeadm",  # Also for kind, minikube and kubespray, which use it.
        serving_signer=KUBELET_SERVING,
        signals=(
            ProviderSignal("plain version", ("v*",), 1),
            *_KUBEADM_SIGNALS,
            ProviderSignal("node provider ID", ("kind://*",), 2),
            ProviderSignal("node label", ("minikube.k8s.io/*",), 2),
        ),
        fits_version=lambda version: "-eks-" not in version,
        # kubernetes-sigs/kind pkg/cluster/internal/kubeconfig
        kubeconfig_marks=(KubeconfigMark("cluster", "kind-*"),),
        ca=_CLUSTER_CA,
        source="kubernetes cmd/kubeadm/app/phases/controlplane/manifests.go (an external CA issues nothing); "
        "kind pkg/cluster/internal/kubeadm/config.go; minikube ktmpl/v1beta4.go",
    ),
    Provider(
        "k3s",
        serving_signer=KUBELET_SERVING,
        signals=(ProviderSignal("version", ("*+k3s*",), 3),),
        ca="k3s' server CA, which is ConfigMap kube-root-ca.crt of every namespace",
        source="k3s-io/k3s#3244, #3599",
    ),
    Provider(
        "rke2",
        serving_signer=KUBELET_SERVING,
        signals=(ProviderSignal("version", ("*+rke2*",), 3),),
        ca="RKE2's server CA, which is ConfigMap kube-root-ca.crt of every namespace",
        source="rancher/rke2 go.mod (k3s)",
    ),
    Provider(
        "k0s",
        serving_signer=KUBELET_SERVING,
        signals=(ProviderSignal("version", ("*+k0s*",), 3),),
        ca=_CLUSTER_CA,
        source="k0sproject/k0s pkg/component/controller/controllermanager.go",
    ),
    Provider(
        "talos",
        serving_signer=KUBELET_SERVING,
        signals=(
            ProviderSignal("node OS image", ("Talos*",), 3),
            ProviderSignal("node annotation", ("talos.dev/*",), 2),
        ),
        ca=_CLUSTER_CA,
        source="siderolabs/talos control_plane_final.go",
    ),
    Provider(
        "kops",
        serving_signer=KUBELET_SERVING,
        signals=(ProviderSignal("node label", ("kops.k8s.io/instancegroup*",), 3),),
        ca=_CLUSTER_CA,
        source="kubernetes/kops nodeup/pkg/model/kube_controller_manager.go",
    ),
    Provider(
        "microk8s",
        serving_signer=KUBELET_SERVING,
        signals=(ProviderSignal("node label", ("microk8s.io/cluster*",), 3),),
        ca=_CLUSTER_CA,
        source="canonical/microk8s microk8s-resources/default-args",
    ),
    Provider(
        "gardener",
        # Its controller csrapprover denies each request of the signer kubelet-serving that is not for a node.
        serving_signer="",
        signals=(ProviderSignal("node label", ("worker.gardener.cloud/*",), 3),),
        ca="another CA (ca-kubelet) than ConfigMap kube-root-ca.crt",
        source="gardener/gardener pkg/resourcemanager/controller/csrapprover; gardener/gardener#6784",
    ),
)

_NO_FACTS: Mapping[str, Any] = {
    "version": {"gitVersion": ""},
    "api_host": "",
    "api_groups": [],
    "nodes": [],
    "cluster_roles": [],
    "config_maps": [],
    "unreadable": {},
    "lacking": [],
    "is_hidden": False,
}
_NO_NODE: Mapping[str, Any] = {"labels": {}, "annotations": {}, "provider_id": "", "os_image": ""}
_NAME_A_SIGNER = (
    "Set provider, or set signer_name. The module k8s_signer_probe shows which signers issue here"
)


class _ValueType(NamedTuple):
    """What the value of a key in a row of the user may be."""

    accepts: Callable[[Any], bool]
    words: str
    convert: Callable[[Any], Any]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    """Return True for a whole number, also as text: a template may make a text of a number."""
    return str(value).isdecimal()


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_TEXT = _ValueType(_is_text, "a string", str)
#: The keys that a row of the user may have.
_OPTIONS: dict[str, _ValueType] = {
    "rule": _TEXT,
    "serving_signer": _TEXT,
    "ca": _TEXT,
    "source": _TEXT,
    "longest_lifetime_seconds": _ValueType(_is_number, "a number of seconds", int),
    "forbidden_prefixes": _ValueType(_is_list_of_texts, "a list of strings", tuple),
}


def detect_by_kubeconfig(fields: Mapping[str, Iterable[str]]) -> str:
    """Return the name of the provider that a kubeconfig shows, or "unknown".

    fields: the values of each KubeconfigMark.field. Names that people choose freely, such as that of a context, are no marks.
    """
    names = {
        row.name
        for row in PROVIDERS
        for mark in row.kubeconfig_marks
        if any(matches(value, mark.pattern) for value in fields[mark.field])
    }
    return names.pop() if len(names) == 1 else UNKNOWN


def detect(facts: Mapping[str, Any], overrides: Mapping[str, Any] = NO_ROWS) -> ProviderVerdict:
    """Return the provider that the facts about a cluster show.

    facts: the result of _kube.cluster_facts.read_cluster_facts.
    overrides: rows of the user, see merge_rows(). If the rule of such a row holds, built-in rows are ignored.

    Raises ProviderError for a row of the user that cannot be used.
    """
    nodes = [{**_NO_NODE, **node} for node in facts.get("nodes", ())]
    complete = {**_NO_FACTS, **facts, "nodes": nodes}
    candidates = [_match(row, complete) for row in merge_rows(overrides)]
    of_user = {name for name, row in overrides.items() if isinstance(row, Mapping) and row.get("rule")}
    matches = [match for match in candidates if match.row.name in of_user and match.points >= ENOUGH]
    if not matches:
        matches = [match for match in candidates if match.points >= ENOUGH]
    if len(matches) != 1:
        cannot = tuple(f"cannot read {fact}: {reason}" for fact, reason in complete["unreadable"].items())
        return ProviderVerdict(
            UNKNOWN,
            "",
            _named(candidates) + cannot,
            _named(matches),
            candidates=tuple(match.row for match in matches or candidates if match.points),
            lacking=tuple(complete["lacking"]),
            is_hidden=complete["is_hidden"],
        )
    (winner,) = matches
    others = (
        []
        if winner.row.name in of_user
        else [match for match in candidates if match is not winner and match.is_strong]
    )
    return ProviderVerdict(
        winner.row.name, winner.row.serving_signer, winner.evidence, _named(others), winner.row
    )


def named_by_user(
    name: str, overrides: Mapping[str, Any] = NO_ROWS, *, required: bool = True
) -> ProviderVerdict:
    """Return the verdict for a provider that the user names.

    Raises ProviderError for a name without a row. If ``required`` is false, the verdict is then "unknown".
    """
    table = merge_rows(overrides)
    row = next((row for row in table if row.name == name), None)
    if row is not None:
        return ProviderVerdict(name, row.serving_signer, ("named by the user",), row=row)
    cause = f"no provider is called {name!r}"
    if required:
        raise ProviderError(cause, remedy=f"Use one of: {', '.join(row.name for row in table)}.")
    return ProviderVerdict(UNKNOWN, "", (cause,))


def default_signer(overrides: Mapping[str, Any]) -> str:
    """Return the signer of the user for a cluster of an unknown provider, or "". Raises ProviderError if it is not a string."""
    signer = overrides.get(DEFAULT) or ""
    if not isinstance(signer, str):
        raise ProviderError(
            f"the entry {DEFAULT!r} of providers is not a signer: {signer!r}",
            remedy="Set it to a signer, such as example.com/serving",
        )
    return signer


def signer_for(verdict: ProviderVerdict, default: str = "") -> str:
    """Return the signer of serving certificates of this provider, or ``default`` if it is not known.

    Raises ProviderError with all marks if there is no default either. Its code is missing-permissions if the marks are hidden.
    """
    signer = verdict.signer or default
    if signer:
        return signer
    permissions = permissions_remedy(verdict)
    choices = (permissions, *_signer_choices(verdict), _NAME_A_SIGNER)
    error = ProviderError(
        _cause_without_signer(verdict),
        code="missing-permissions" if verdict.is_hidden else "signer-not-known",
        evidence=tuple(dict.fromkeys((*verdict.contradictions, *verdict.evidence)))
        or ("no mark of any provider",),
        remedy=" ".join(filter(None, choices)),
    )
    error.lacks_permissions = bool(verdict.lacking)
    raise error


def _cause_without_signer(verdict: ProviderVerdict) -> str:
    if verdict.row is not None:
        doubt = f". The row of this provider is a guess: {verdict.row.doubt}" if verdict.row.doubt else ""
        return (
            f"no signer is known that issues certificates for a Service on the provider {verdict.name}{doubt}"
        )
    if verdict.contradictions:
        return "this cluster has marks of several providers, so its signer is not known"
    if verdict.is_hidden:
        return "this identity has no permission to read what shows the provider of this cluster, so its signer is not known"
    return "the provider of this cluster is not recognised, so its signer is not known"


def is_built_in(verdict: ProviderVerdict) -> bool:
    """Return True if the signer is that of the table, without an entry of the user."""
    return any(row.name == verdict.name and row.serving_signer == verdict.signer for row in PROVIDERS)


def permissions_remedy(verdict: ProviderVerdict) -> str:
    """Return the sentence with the permissions that show more marks of the provider, or ""."""
    if not verdict.lacking:
        return ""
    return f"To detect the provider, give this identity the permission to {_listing(verdict.lacking)}."


def _signer_choices(verdict: ProviderVerdict) -> Iterator[str]:
    """Yield a sentence for each provider that the marks allow, with its signer. Providers without a signer share one."""
    rows = (verdict.row,) if verdict.row else verdict.candidates
    yield from (
        f"On {row.name}, set signer_name: {row.serving_signer}." for row in rows if row.serving_signer
    )
    others = [row.name for row in rows if not row.serving_signer]
    if others:
        yield f"On {_listing(others)}, set signer_name: {EPHEMERAL_CA}, which needs no signer of the cluster."


def _listing(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def merge_rows(overrides: Mapping[str, Any] = NO_ROWS) -> tuple[Provider, ...]:
    """Return the table with the rows of the user merged in.

    overrides: the name of a provider -> its signer, or a row. A row has any of `rule` (JMESPath), `serving_signer`, `ca`,
    `longest_lifetime_seconds`, `forbidden_prefixes`, `source`. The other fields are those of the built-in row of that name.
    The entry "default" is no provider. An empty entry is ignored.

    Raises ProviderError for an entry that is neither a signer nor such a row.
    """
    table = {row.name: row for row in PROVIDERS}
    for name, entry in overrides.items():
        if entry and name != DEFAULT:
            row = {"serving_signer": entry} if isinstance(entry, str) else entry
            _check_row(name, row)
            table[name] = _overridden(table.get(name) or Provider(name, "", (), "", "the user"), row)
    return tuple(table.values())


def _check_row(name: str, row: Any) -> None:
    if not isinstance(row, Mapping):
        raise ProviderError(
            f"the entry of provider {name!r} is neither a signer nor a row: {row!r}",
            remedy=f"Set it to a signer, such as example.com/serving, or to a dictionary with some of these keys: {', '.join(_OPTIONS)}",
        )
    unknown = sorted(map(str, set(row) - set(_OPTIONS)))
    if unknown:
        raise ProviderError(
            f"the row of provider {name!r} has unknown keys: {', '.join(unknown)}",
            remedy=f"Use only these keys: {', '.join(_OPTIONS)}.",
        )
    for key, (is_right, wanted, _convert) in _OPTIONS.items():
        if row.get(key) is not None and not is_right(row[key]):
            raise ProviderError(
                f"the key {key} of provider {name!r} is not {wanted}: {row[key]!r}",
                remedy=f"Set {key} to {wanted}, or remove it",
            )


def _overridden(row: Provider, override: Mapping[str, Any]) -> Provider:
    changes = {
        key: _OPTIONS[key].convert(value)
        for key, value in override.items()
        if key != "rule" and value is not None
    }
    if override.get("rule"):
        changes["rule"] = override["rule"]
    return replace(row, **changes)


@dataclass(frozen=True)
class _Match:
    """The marks of one row that hold."""

    row: Provider
    points: int
    is_strong: bool
    evidence: tuple[str, ...]


def _match(row: Provider, facts: Mapping[str, Any]) -> _Match:
    if row.rule:
        value = _search(row.rule, facts, row)
        evidence = (f"the user's rule holds: {_text(value)}",) if value else ()
        return _Match(row, ENOUGH * bool(value), bool(value), evidence)
    if not row.fits_version(facts["version"]["gitVersion"]):
        return _Match(row, 0, False, ())
    holding = [(signal, values) for signal in row.signals if (values := _find(signal, facts))]
    return _Match(
        row,
        points=sum(signal.points for signal, _values in holding),
        is_strong=any(signal.points >= STRONG for signal, _values in holding),
        evidence=tuple(f"{signal.fact} {_text(values)}" for signal, values in holding),
    )


def _find(signal: ProviderSignal, facts: Mapping[str, Any]) -> list[str]:
    """Return the values of the fact that the mark matches."""
    return [
        value
        for value in FACTS[signal.fact](facts)
        if any(matches(value, pattern) for pattern in signal.patterns)
    ]


def _search(rule: str, facts: Mapping[str, Any], row: Provider) -> Any:
    """Return the value of a rule of the user. Only such a rule needs the library."""
    try:
        jmespath = importlib.import_module("jmespath")
    except ImportError as error:
        raise ProviderError(
            f"{sys.executable} lacks the Python library jmespath, which the rule of provider {row.name!r} needs",
            code="missing-library",
            evidence=(rule,),
            remedy="Install jmespath>=1.0.0 for that interpreter, or set the provider of the task instead of a rule",
        ) from error
    try:
        return jmespath.search(rule, facts)
    except jmespath.exceptions.JMESPathError as error:
        raise ProviderError(
            f"the rule of provider {row.name!r} cannot be used: {error}",
            evidence=(rule,),
            remedy=f"Correct the JMESPath expression; it reads {', '.join(_NO_FACTS)}.",
        ) from error


def _text(value: Any) -> str:
    if isinstance(value, list):
        texts = list(dict.fromkeys(map(str, value)))
        return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
    return str(value)


def _named(matches: Iterable[_Match]) -> tuple[str, ...]:
    return tuple(f"{match.row.name}: {text}" for match in matches for text in match.evidence)
