"""Neuron embeddings: what makes a neuron fire, as vectors, and how many kinds of it there are.

    e(x) = h(x) * w        element by element: what the neuron receives at x, times its input weights

of the inputs x that it fires for most. The elements of e sum, with the bias, to the pre-activation; examples that
excite the neuron for the same reason have near embeddings, whatever else they have in common. Foote 2024, "Tackling
Polysemanticity with Neuron Embeddings".

    neurons, norms      where the neurons of a layer and their input weights are, and the norm in front of them
    latent              latents of autoencoders in their place
    passes, reading     one pass over a corpus
    examples            running exact top examples of every neuron
    clusters, layers    examples of a neuron in clusters, with numbers for its polysemanticity
    similar             nearest features of other neurons
    importance          what masking a token takes from an activation
    compute             `pk.embeddings`
    tensors             `pk.latent_features`: latents on plain rows
    trained, trial      autoencoders with the loss of neuron embeddings, `pk.latents`
    explorer, figure    pages and pictures
"""

from polykern.neurons.clusters import Features as Features
from polykern.neurons.clusters import features as features
from polykern.neurons.compute import embeddings as embeddings
from polykern.neurons.examples import TopExamples as TopExamples
from polykern.neurons.result import Embeddings as Embeddings
from polykern.neurons.tensors import latent_features as latent_features
from polykern.neurons.trial import LatentTrial as LatentTrial
from polykern.neurons.trial import latents as latents
