# The public names, for type checkers and editors; __init__.py imports them when they are used.
from data_prep.load import load_dataset as load_dataset
from hrmas_sparse.data.dataset import Dataset as Dataset
from hrmas_sparse.data.events import Events as Events
from hrmas_sparse.engine.architecture import Architecture as Architecture
from hrmas_sparse.engine.layers import LIF as LIF
from hrmas_sparse.engine.layers import Dense as Dense
from hrmas_sparse.engine.layers import Feedforward as Feedforward
from hrmas_sparse.engine.layers import Integrator as Integrator
from hrmas_sparse.engine.layers import Motifs as Motifs
from hrmas_sparse.engine.layers import Supernet as Supernet
from hrmas_sparse.engine.network import Network as Network
from hrmas_sparse.engine.parameters import Parameters as Parameters
from hrmas_sparse.gradcheck import gradcheck as gradcheck
from hrmas_sparse.gradcheck.entries import check_gradients as check_gradients
from hrmas_sparse.run.api import load_run as load_run
from hrmas_sparse.run.api import retrain as retrain
from hrmas_sparse.run.api import search as search
from hrmas_sparse.run.stop import StopRequest as StopRequest
from hrmas_sparse.run.trained import Run as Run
from hrmas_sparse.search.hrmas import alpha_gradient as alpha_gradient
from hrmas_sparse.settings.load import settings as settings
from hrmas_sparse.storage.errors import Diverged as Diverged
from hrmas_sparse.storage.errors import InputError as InputError

__version__: str
